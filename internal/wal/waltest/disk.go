package waltest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// ErrDead is what every operation returns between a death and the next Revive,
// and what a handle from before a death returns for ever.
var ErrDead = errors.New("the process that opened this is dead")

// Disk is one directory on a disk in memory, a wal.FS. It knows two deaths:
// when the process dies, what it has written stays; when the power fails, any
// part of what was not synced is gone: sectors, lengths, names.
//
// Everything that it decides comes from its seed: the same calls have the same
// effects. It may be used by several goroutines, but then their order counts.
type Disk struct {
	mu     sync.Mutex
	random *rand.Rand
	files  map[string]*inode // as processes see them
	sure   map[string]*inode // as they would be after a power cut
	names  []nameChange      // what separates the two
	life   int               // counts deaths
	dead   bool
	locked bool

	fuse      int   // > 0: operations until the process dies
	capacity  int64 // 0: no limit
	failSyncs int   // so many syncs fail from now on
	ops       int
}

// inode is one file. The bytes that processes see are those of sure with all
// of writes applied, unless a sync has failed.
type inode struct {
	now    []byte
	sure   []byte
	writes []write // since the last sync, in order
	data   []byte  // of writes, one behind the other
}

type write struct {
	off   int64
	bytes int
}

// each calls do with the offset and the bytes of every write since the last sync,
// then forgets them.
func (f *inode) each(do func(off int64, data []byte)) {
	rest := f.data
	for _, w := range f.writes {
		do(w.off, rest[:w.bytes])
		rest = rest[w.bytes:]
	}
	f.forget()
}

func (f *inode) forget() { f.writes, f.data = f.writes[:0], f.data[:0] }

// nameChange is a change of the directory that is not durable yet.
type nameChange struct {
	from, to string // from == "": created; to == "": removed
	file     *inode
}

// NewDisk returns an empty disk.
func NewDisk(seed uint64) *Disk {
	return &Disk{
		random: rand.New(rand.NewPCG(seed, 0x77616c)),
		files:  make(map[string]*inode), sure: make(map[string]*inode),
	}
}

// Kill ends the process: its handles and its lock are gone, what it has written
// is there.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killLocked()
	d.reviveLocked()
}

// PowerOff cuts the power: the process is gone, and of everything that was not
// synced any part.
func (d *Disk) PowerOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killLocked()
	d.loseLocked()
	d.reviveLocked()
}

// DieAfter lets the process die in the middle of the n-th operation from now
// on that changes something; 0 takes the order back. Dead tells when.
// Afterwards every operation fails until Kill or PowerOff says which death it
// was.
func (d *Disk) DieAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse = n
}

// Dead reports whether the process has died by DieAfter.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Operations counts those that have changed something.
func (d *Disk) Operations() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// SetCapacity bounds the sum of all file lengths; 0 is no bound. Files that are
// there stay.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// Used is the sum of all file lengths.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usedLocked()
}

// FailSyncs lets the next n syncs of files fail. As in a real kernel, what they
// should have written is then taken for written, though it is not.
func (d *Disk) FailSyncs(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failSyncs = n
}

// Corrupt changes a byte of a file for good.
func (d *Disk) Corrupt(name string, off int64, flip byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil || off >= int64(len(f.now)) {
		return fmt.Errorf("no byte %d in %s", off, name)
	}
	f.now[off] ^= flip
	if off < int64(len(f.sure)) {
		f.sure[off] ^= flip
	}
	return nil
}

// Content returns a copy of what processes see in a file, nil if there is none.
func (d *Disk) Content(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return slices.Clone(f.now)
	}
	return nil
}

// Clone returns another disk with the same content, whose further decisions
// come from seed.
func (d *Disk) Clone(seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewDisk(seed)
	copies := make(map[*inode]*inode)
	clone := func(f *inode) *inode {
		if f != nil && copies[f] == nil {
			copies[f] = &inode{
				now: slices.Clone(f.now), sure: slices.Clone(f.sure), writes: slices.Clone(f.writes), data: slices.Clone(f.data),
			}
		}
		return copies[f]
	}
	for name, f := range d.files {
		c.files[name] = clone(f)
	}
	for name, f := range d.sure {
		c.sure[name] = clone(f)
	}
	for _, n := range d.names {
		c.names = append(c.names, nameChange{from: n.from, to: n.to, file: clone(n.file)})
	}
	c.capacity = d.capacity
	return c
}

func (d *Disk) killLocked() {
	d.life++
	d.locked = false
}

func (d *Disk) reviveLocked() { d.dead, d.fuse = false, 0 }

// loseLocked decides what of the unsynced changes is on the disk.
func (d *Disk) loseLocked() {
	mood := d.random.IntN(4) // 0: nothing, 1: everything, else: any part
	keep := func() bool { return mood == 1 || mood > 1 && d.random.IntN(2) == 0 }
	inOrder := d.random.IntN(2) == 0 // a journal loses names from the end only
	for _, n := range d.names {
		if keep() {
			n.apply(d.sure)
		} else if inOrder {
			break
		}
	}
	d.names = nil
	d.files = maps.Clone(d.sure)
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		d.files[name].lose(keep)
	}
}

// lose keeps those sectors of the unsynced writes that keep tells it to.
func (f *inode) lose(keep func() bool) {
	f.each(func(off int64, data []byte) {
		end := off + int64(len(data))
		if end > int64(len(f.sure)) && keep() {
			f.sure = extend(f.sure, end) // the length is newer than the data
		}
		for at := off; at < end; {
			next := min(end, (at/sectorBytes+1)*sectorBytes)
			if keep() {
				f.sure = extend(f.sure, next)
				copy(f.sure[at:next], data[at-off:])
			}
			at = next
		}
	})
	f.now = append(f.now[:0], f.sure...)
}

func extend(b []byte, n int64) []byte {
	if n > int64(len(b)) {
		b = append(b, make([]byte, n-int64(len(b)))...)
	}
	return b
}

func (n nameChange) apply(names map[string]*inode) {
	if n.from != "" {
		if names[n.from] != n.file {
			return // an earlier change of it is lost
		}
		delete(names, n.from)
	}
	if n.to != "" {
		names[n.to] = n.file
	}
}

// changeLocked counts an operation that changes something. It reports false
// when the process dies in it.
func (d *Disk) changeLocked() bool {
	d.ops++
	if d.fuse == 0 {
		return true
	}
	d.fuse--
	if d.fuse == 0 {
		d.dead = true
	}
	return d.fuse > 0
}

func (d *Disk) usedLocked() int64 {
	var n int64
	for _, f := range d.files {
		n += int64(len(f.now))
	}
	return n
}

// roomLocked reports whether files may grow by n bytes.
func (d *Disk) roomLocked(n int64) bool {
	return n <= 0 || d.capacity == 0 || d.usedLocked()+n <= d.capacity
}

// Lock implements wal.FS.
func (d *Disk) Lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead:
		return nil, ErrDead
	case d.locked:
		return nil, errors.New("the disk is in use by another process")
	}
	d.locked = true
	return &lock{disk: d, life: d.life}, nil
}

type lock struct {
	disk *Disk
	life int
}

func (l *lock) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if l.life == l.disk.life {
		l.disk.locked = false
	}
	return nil
}

// List implements wal.FS.
func (d *Disk) List() ([]wal.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, ErrDead
	}
	var list []wal.FileInfo
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		list = append(list, wal.FileInfo{Name: name, Size: int64(len(d.files[name].now))})
	}
	return list, nil
}

// Create implements wal.FS.
func (d *Disk) Create(name string) (wal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead || !d.changeLocked():
		return nil, ErrDead
	case d.files[name] != nil:
		return nil, fmt.Errorf("create %s: %w", name, syscall.EEXIST)
	case !d.roomLocked(1):
		return nil, fmt.Errorf("create %s: %w", name, syscall.ENOSPC)
	}
	f := &inode{}
	d.renameLocked(nameChange{to: name, file: f})
	return &handle{disk: d, life: d.life, file: f, name: name}, nil
}

func (d *Disk) renameLocked(n nameChange) {
	n.apply(d.files)
	d.names = append(d.names, n)
}

// Open implements wal.FS.
func (d *Disk) Open(name string) (wal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead:
		return nil, ErrDead
	case d.files[name] == nil:
		return nil, fmt.Errorf("open %s: %w", name, syscall.ENOENT)
	}
	return &handle{disk: d, life: d.life, file: d.files[name], name: name}, nil
}

// Rename implements wal.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead || !d.changeLocked():
		return ErrDead
	case d.files[from] == nil:
		return fmt.Errorf("rename %s: %w", from, syscall.ENOENT)
	}
	d.renameLocked(nameChange{from: from, to: to, file: d.files[from]})
	return nil
}

// Remove implements wal.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead || !d.changeLocked():
		return ErrDead
	case d.files[name] == nil:
		return fmt.Errorf("remove %s: %w", name, syscall.ENOENT)
	}
	d.renameLocked(nameChange{from: name, file: d.files[name]})
	return nil
}

// SyncDir implements wal.FS.
func (d *Disk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead || !d.changeLocked() {
		return ErrDead
	}
	for _, n := range d.names {
		n.apply(d.sure)
	}
	d.names = nil
	return nil
}

// Path implements wal.FS.
func (d *Disk) Path(name string) string { return "disk/" + name }

// handle is an open file of one life of the process.
type handle struct {
	disk *Disk
	life int
	file *inode
	name string
}

func (h *handle) aliveLocked() bool { return !h.disk.dead && h.life == h.disk.life }

// ReadAt implements wal.File.
func (h *handle) ReadAt(b []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if !h.aliveLocked() {
		return 0, ErrDead
	}
	if off >= int64(len(h.file.now)) {
		return 0, io.EOF
	}
	n := copy(b, h.file.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements wal.File.
func (h *handle) WriteAt(b []byte, off int64) (int, error) {
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if !h.aliveLocked() {
		return 0, ErrDead
	}
	if len(b) == 0 {
		return 0, nil
	}
	var err error
	if !d.changeLocked() {
		b, err = d.tornLocked(b, off), ErrDead
	} else if !d.roomLocked(off + int64(len(b)) - int64(len(h.file.now))) {
		err = fmt.Errorf("write %s: %w", h.name, syscall.ENOSPC)
		b = b[:max(0, min(int64(len(b)), int64(len(h.file.now))-off))]
	}
	h.file.write(b, off)
	return len(b), err
}

// tornLocked returns the part of a write that a process which dies in it gets
// done: up to the end of some sector.
func (d *Disk) tornLocked(b []byte, off int64) []byte {
	end := (off + int64(d.random.IntN(len(b)+1))) / sectorBytes * sectorBytes
	return b[:max(0, end-off)]
}

func (f *inode) write(b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	f.now = extend(f.now, off+int64(len(b)))
	copy(f.now[off:], b)
	f.writes = append(f.writes, write{off: off, bytes: len(b)})
	f.data = append(f.data, b...)
}

// Sync implements wal.File.
func (h *handle) Sync() error {
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if !h.aliveLocked() || !d.changeLocked() {
		return ErrDead
	}
	if d.failSyncs > 0 {
		d.failSyncs--
		h.file.forget() // they are seen until the power fails, and never reach the disk
		return fmt.Errorf("sync %s: %w", h.name, syscall.EIO)
	}
	f := h.file
	f.each(func(off int64, data []byte) {
		f.sure = extend(f.sure, off+int64(len(data)))
		copy(f.sure[off:], data)
	})
	return nil
}

// Close implements wal.File.
func (h *handle) Close() error { return nil }
