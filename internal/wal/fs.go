package wal

import (
	"errors"
	"io"
	"syscall"
)

// FS is one directory as the log needs it. DirFS is the real one; waltest.Disk
// forgets what was not synced.
//
// Names are plain file names. An operation on a name survives a power cut only
// once SyncDir has returned.
type FS interface {
	// Lock claims the directory until the answer is closed or the process ends.
	// It is refused while another process holds it.
	Lock() (io.Closer, error)
	// List returns the files in the directory, ordered by name.
	List() ([]FileInfo, error)
	// Create makes a new, empty file; it is an error if the name is taken.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Rename gives a file another name, replacing what had that name. Handles
	// of the file stay valid.
	Rename(from, to string) error
	// Remove takes the name away.
	Remove(name string) error
	// SyncDir makes every earlier Create, Rename and Remove durable.
	SyncDir() error
	// Path is how an operator finds the file; it is used in messages only.
	Path(name string) string
}

// Roomy is what an FS may offer beside. Without it the log learns that a disk is
// full by filling it to the last byte, which others on the same disk may not
// survive.
type Roomy interface {
	// Room is how many bytes more the file system takes.
	Room() (uint64, error)
}

// FileInfo is one line of FS.List.
type FileInfo struct {
	Name string
	Size int64
}

// File is an open file of an FS. WriteAt and ReadAt may be called from several
// goroutines at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes the content and the length durable. After an error nothing
	// may be concluded about what is on the disk, and a second Sync proves
	// nothing either.
	Sync() error
	io.Closer
}

// isNoSpace reports whether err says that the file system is full, which heals
// by itself, unlike any other error of a disk.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
