package host

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/checkfile"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
	"github.com/tarbitrator/tarbitrator/mnode"
)

var (
	recordMagic = checkfile.Magic{'T', 'A', 'R', 'H', 'O', 'S', 'T', '1'}
	viewMagic   = checkfile.Magic{'T', 'A', 'R', 'V', 'I', 'E', 'W', '1'}
)

const (
	recordName = "host"
	lockName   = "lock"
	viewName   = "view"
)

// Identity is who this host is. The UUID is made with the directory; the rest
// is empty until the host has founded or joined a cluster.
type Identity struct {
	UUID    id.UUID
	Cluster id.Cluster
	Dnode   id.Host
	Secret  mnode.Secret
	// Token was drawn with the UUID, which is no secret: with it a host that asks
	// again to be let in proves that it was the one before.
	Token    mnode.Secret `json:",omitzero"`
	Founding bool         // born, but the first command is not known to be in the log
}

// phase says how far a replica's life on this host has come.
type phase uint8

const (
	phaseCreating phase = 0 // about to be made; nobody was told of it yet
	phaseHeld     phase = 1 // made and durable: if it is gone, it is lost
	phaseRemoving phase = 2 // to be removed, whatever is left of it
)

// held is one replica that this host has, or had.
type held struct {
	Group   id.Group
	Replica id.Replica
	Epoch   uint64
	Phase   phase
	// Database and Options open the shard without asking anybody.
	Database string
	Options  mnode.Options
}

// contents is the file.
type contents struct {
	Identity Identity
	Starts   peer.Offer // this start and those before it (R42)
	OldCopy  string     `json:",omitempty"` // who has found this directory to be an old copy, and why
	Replicas []held     // by Group
	Recovery *Recovery  `json:",omitempty"` // the last one (R35)
}

// Record is the file that a host must not lose: who it is and what it holds.
// Every change is durable when the method returns.
type Record struct {
	path string
	boot uint64   // drawn at this start
	lock *os.File // held until Close: one process per directory

	// mu guards the contents and, unlike other locks, is held while the file
	// is replaced: two changes must not overtake each other, and readers on
	// hot paths do not come here.
	mu  sync.Mutex
	now contents
}

// OpenRecord reads the record in dir, a host's dataDir. In an empty directory it
// makes one with a new UUID. It must be the first to touch dataDir; Begin comes
// next.
func OpenRecord(dir string) (*Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	r := &Record{path: filepath.Join(dir, recordName), boot: randomUint64(), lock: lock}
	if err := r.read(dir); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close lets another process have the directory.
func (r *Record) Close() error { return r.lock.Close() }

// lockDir makes this process the only one in dir. Two of them would undo each
// other's changes of the record before any other lock could stop them.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another process: stop it, or give this one its own dataDir (%w)", dir, err)
	}
	return f, nil
}

// read reads the file, or makes it in an empty directory.
func (r *Record) read(dir string) error {
	b, err := checkfile.Read(r.path, recordMagic)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := checkEmpty(dir); err != nil {
			return err
		}
		return r.change(func(c *contents) {
			c.Identity.UUID = id.NewUUID()
			rand.Read(c.Identity.Token[:]) // never fails (crypto/rand, Go 1.24)
		})
	case err != nil:
		return fmt.Errorf("open the record of this host: %w", err)
	}
	r.now, err = decodeRecord(b)
	return err
}

// Begin counts this start, of which sequence is the last batch that it found in
// its log. Nothing may be said to anybody before it has returned (R42).
func (r *Record) Begin(sequence uint64) error {
	if last := r.Offer(); sequence < last.Sequence {
		return fmt.Errorf("the log in the data directory ends at batch %d, and start %d of this host had found batch %d there: part of the directory was put back from an old copy; restore this host as a new member, from an empty data directory",
			sequence, last.Boot, last.Sequence)
	}
	return r.change(func(c *contents) { c.Starts = c.Starts.Next(r.boot, sequence) })
}

// Offer is what this directory says of its starts.
func (r *Record) Offer() peer.Offer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.Starts
}

// OldCopy says why this directory may serve nothing, ever again: it was found to
// be an old copy of itself. Empty: it was not.
func (r *Record) OldCopy() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.OldCopy
}

// MarkOldCopy notes it for all later starts: whoever noticed may not be there
// then. The first reason stays.
func (r *Record) MarkOldCopy(why string) error {
	if r.OldCopy() != "" {
		return nil
	}
	return r.change(func(c *contents) { c.OldCopy = why })
}

// checkEmpty refuses a directory that has lost its record but not its data:
// taking it for a new host would forget what it has acknowledged. Nor does a host
// begin in an arbitrator's directory, which is a log and nothing else.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if filepath.Ext(name) == wal.SegmentSuffix {
			return fmt.Errorf("data directory %s is that of a tarbitrator: give this host its own dataDir", dir)
		}
		if name == "wal" || name == "mnode" || name == "vnode" {
			return fmt.Errorf("data directory %s holds %s but not the file %q that says whose it is: put that file back, or empty the directory to start as a new host", dir, name, recordName)
		}
	}
	return nil
}

func decodeRecord(b []byte) (contents, error) {
	var c contents
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read the record of this host: %w", err)
	}
	if c.Identity.UUID.IsZero() || (c.Identity.Cluster == 0) != (c.Identity.Dnode == 0) {
		return c, errors.New("read the record of this host: it names nobody")
	}
	if c.Starts.Boot > 0 {
		if err := c.Starts.Check(); err != nil {
			return c, fmt.Errorf("read the record of this host: %w", err)
		}
	}
	for i, r := range c.Replicas {
		if r.Group == 0 || r.Replica == 0 || r.Phase > phaseRemoving || i > 0 && r.Group <= c.Replicas[i-1].Group {
			return c, fmt.Errorf("read the record of this host: replica %d of group %d is out of place", r.Replica, r.Group)
		}
	}
	return c, nil
}

// Identity returns who this host is.
func (r *Record) Identity() Identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.Identity
}

// Boot is a number drawn at this start: with a counter it names statements
// (R46).
func (r *Record) Boot() uint64 { return r.boot }

// change replaces the file. When it fails the contents are as they were.
func (r *Record) change(edit func(c *contents)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.now
	next.Replicas = slices.Clone(r.now.Replicas)
	edit(&next)
	b, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the record of this host: %w", err)
	}
	if err := checkfile.Write(r.path, recordMagic, b); err != nil {
		return fmt.Errorf("write the record of this host: %w", err)
	}
	r.now = next
	return nil
}

// replicas returns what this host holds, by group.
func (r *Record) replicas() []held {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.now.Replicas)
}

func (r *Record) replica(g id.Group) (held, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.now.Replicas {
		if x.Group == g {
			return x, true
		}
	}
	return held{}, false
}

// put notes replicas, in one write.
func (r *Record) put(list ...held) error {
	if len(list) == 0 {
		return nil
	}
	return r.change(func(c *contents) {
		for _, x := range list {
			i, found := slices.BinarySearchFunc(c.Replicas, x.Group, func(h held, g id.Group) int { return int(h.Group) - int(g) })
			if found {
				c.Replicas[i] = x
			} else {
				c.Replicas = slices.Insert(c.Replicas, i, x)
			}
		}
	})
}

// forget strikes out a replica of which nothing is left.
func (r *Record) forget(g id.Group) error {
	return r.change(func(c *contents) {
		c.Replicas = slices.DeleteFunc(c.Replicas, func(x held) bool { return x.Group == g })
	})
}

// loadView reads the View that this host had last; an empty one if there is
// none that can be read: it is only a copy.
func loadView(dir string) (*mnode.View, error) {
	b, err := checkfile.Read(filepath.Join(dir, viewName), viewMagic)
	if errors.Is(err, fs.ErrNotExist) {
		return &mnode.View{}, nil
	}
	if err == nil {
		var v *mnode.View
		if v, err = mnode.DecodeView(b); err == nil {
			return v, nil
		}
	}
	return &mnode.View{}, fmt.Errorf("read the cached view: %w", err)
}

func saveView(dir string, v *mnode.View) error {
	b, err := mnode.EncodeView(v)
	if err == nil {
		err = checkfile.Write(filepath.Join(dir, viewName), viewMagic, b)
	}
	if err != nil {
		return fmt.Errorf("write the cached view: %w", err)
	}
	return nil
}

func randomUint64() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return binary.LittleEndian.Uint64(b[:])
}
