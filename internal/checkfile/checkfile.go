// Package checkfile keeps small files that are there whole or not at all: a
// magic word with a version, a length, a CRC32C and the content, replaced in
// one step.
//
// It knows nothing about what is in them, and it is not for anything that is
// written often: every Write costs two syncs and a rename.
package checkfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// ErrCorrupt says that a file is not what Write left there.
var ErrCorrupt = errors.New("file is damaged")

// headerBytes is the magic word, the length and the checksum.
const headerBytes = 8 + 4 + 4

// MaxBytes bounds the content of one file.
const MaxBytes = 256 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Magic names the kind and the version of a file: its first eight bytes.
type Magic [8]byte

// Encode wraps content: magic, length, checksum over magic, length and
// content (little endian), content.
func Encode(magic Magic, content []byte) []byte {
	b := make([]byte, headerBytes, headerBytes+len(content))
	copy(b, magic[:])
	binary.LittleEndian.PutUint32(b[8:], uint32(len(content)))
	sum := crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, content)
	binary.LittleEndian.PutUint32(b[12:], sum)
	return append(b, content...)
}

// Decode returns the content that Encode wrapped. It shares b's memory.
func Decode(magic Magic, b []byte) ([]byte, error) {
	if len(b) < headerBytes {
		return nil, fmt.Errorf("%w: %d bytes, want at least %d", ErrCorrupt, len(b), headerBytes)
	}
	if Magic(b[:8]) != magic {
		return nil, fmt.Errorf("%w: starts with %q, want %q (another version?)", ErrCorrupt, b[:8], magic[:])
	}
	if n := binary.LittleEndian.Uint32(b[8:]); uint64(n) != uint64(len(b)-headerBytes) {
		return nil, fmt.Errorf("%w: says %d bytes of content, has %d", ErrCorrupt, n, len(b)-headerBytes)
	}
	content := b[headerBytes:]
	sum := crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, content)
	if want := binary.LittleEndian.Uint32(b[12:]); sum != want {
		return nil, fmt.Errorf("%w: checksum is %08x, want %08x", ErrCorrupt, sum, want)
	}
	return content, nil
}

// Read returns the content of path; fs.ErrNotExist when there is none.
func Read(path string, magic Magic) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxBytes+headerBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are possible", ErrCorrupt, path, info.Size(), MaxBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	content, err := Decode(magic, b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return content, nil
}

// Write replaces path: once it has returned nil the new content survives a
// power cut; until then the old one does.
func Write(path string, magic Magic, content []byte) error {
	if len(content) > MaxBytes {
		return fmt.Errorf("write %s: %d bytes are more than %d", path, len(content), MaxBytes)
	}
	return Replace(path, Encode(magic, content))
}

// Replace is Write for a file of another form.
func Replace(path string, b []byte) error {
	temp := path + ".new"
	if err := writeSynced(temp, b); err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

func writeSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir makes the names in dir survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
