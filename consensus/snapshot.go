package consensus

import (
	"context"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// A replica that is too far behind for the log, or new, gets a copy of another
// one's state. The copy arrives in pieces beside the state that it will replace;
// it is durable and checked before the log names it, and the old state goes only
// after that. So at every moment there is one whole state that the log's mark
// belongs to.

// SnapshotID names one opening of a snapshot on one host: pieces of two of them
// do not belong together.
type SnapshotID [16]byte

// Snapshotter is the part of a StateMachine that helps a replica which the log
// can't help.
type Snapshotter interface {
	// Snapshot opens what Apply has done so far, to be read while Apply goes
	// on. Called where Apply would be, so never while it runs; it must not take
	// long.
	Snapshot() (Snapshot, error)
	// Receive begins the copy of a snapshot, or goes on with it where a broken
	// connection or a death of this process has left it. A copy of any other
	// snapshot that is there is removed. May run beside Apply.
	Receive(snapshot SnapshotID, index id.Index) (Copy, error)
	// Install makes the finished copy of the snapshot at index the state: it
	// replaces everything that Apply has done. Called where Apply would be, once
	// the log names index as its start and mark, durably. A machine that is
	// opened again does the same by itself: it takes the finished copy if it is
	// the one at the log's mark, and its old state if not. A finished copy that
	// the mark has passed is stale: the log has helped after all.
	Install(index id.Index) error
}

// Snapshot is the state of one replica at one index. Its methods are called by
// one goroutine at a time; it must be closed.
type Snapshot interface {
	// Index is the last entry that is in it. The copy is called by that of the
	// log, which may be higher: membership and elections have entries, too.
	Index() id.Index
	// Bytes is about how much there is to read, for those who wait.
	Bytes() uint64
	// Read returns the piece after a position, of at most some 64 KiB, and the
	// position after it, which is never empty; the first piece is after nil. With
	// nothing left the error is io.EOF. The same position gives the same piece
	// again.
	Read(after []byte) (piece, next []byte, err error)
	// Digest is that of all pieces, to be compared by Copy.Finish. It may have
	// to read everything.
	Digest(ctx context.Context) ([]byte, error)
	Close() error
}

// Copy is a snapshot on its way in. Its methods are called by one goroutine at a
// time; it must be closed.
type Copy interface {
	// After is the position to go on from: every piece before it is here. It is
	// nil at the start, and the last position of Read once all is here.
	After() []byte
	// Write adds the piece that followed After. next is what Read returned with
	// it.
	Write(piece, next []byte) error
	// Finish compares digests and makes the copy durable. An error means that it
	// has been removed: begin again.
	Finish(ctx context.Context, digest []byte) error
	// Close lets go of the copy; what is on the disk stays, for Receive or
	// Install.
	Close() error
}
