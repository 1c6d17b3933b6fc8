package arbitrator

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/wal"
)

// Store is everything that an arbitrator remembers: who it is, the clusters
// that it serves, and the machine's records. It turns changes into operations
// of a log, one log group ("slot") for each thing, and back when it is opened.
//
// It does no I/O of its own after OpenStore: the owner appends the operations,
// in the order in which they were made, and syncs. The directory's identity is
// in the log itself, so a wiped or replaced log is another directory (R29,
// pitfall 14).
//
// All methods belong to one goroutine, except Secret, Lookup, Clusters, Judge and
// Heard.
type Store struct {
	log        *wal.Log
	uuid       id.UUID
	generation uint64
	starts     peer.Offer // this start, once it has begun, and those before
	startsSlot id.Group   // zero: never started
	records    []Record   // as read by OpenStore; given away by Records
	slots      map[Key]id.Group
	free       []id.Group // slots that were given back
	next       id.Group

	mu struct {
		sync.RWMutex
		clusters map[id.Cluster]*knownCluster
		unsaved  map[id.Cluster]bool // sightings of its hosts have changed
	}
}

// knownCluster is a cluster that has enrolled a replica here.
type knownCluster struct {
	slot   id.Group
	secret peer.Secret
	hosts  map[id.Host]Member
}

// Member is a host of a cluster as it was last heard from.
type Member struct {
	UUID    id.UUID
	Addr    string        // host:port
	Seen    peer.Sighting // of its directory (R42)
	OldCopy bool          // in its place an old copy of it was met; not stored
}

// The bounds of what clusters may leave here.
const (
	maxClusters = 4096
	maxMembers  = 64 // hosts remembered of one cluster
	maxAddr     = 255
)

// identitySlot holds the identity and the generation; things have those above.
const identitySlot id.Group = 1

// StoreOptions suit the log of an arbitrator: small records, few of them, no
// entries. With the reserve it takes some 16 MiB of disk.
func StoreOptions() wal.Options {
	return wal.Options{SegmentBytes: 4 << 20, CacheBytes: 4 << 10}
}

// OpenStore reads the store in fs, or makes a new one with a new identity. What
// it returns is durable.
func OpenStore(fs wal.FS, opt wal.Options) (*Store, error) {
	log, err := wal.Open(fs, opt)
	if err != nil {
		return nil, fmt.Errorf("open vote store: %w", err)
	}
	s := &Store{log: log, slots: make(map[Key]id.Group), next: identitySlot + 1}
	s.mu.clusters, s.mu.unsaved = make(map[id.Cluster]*knownCluster), make(map[id.Cluster]bool)
	if err := s.load(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return s, nil
}

func (s *Store) load() error {
	groups := s.log.Groups()
	for _, g := range groups {
		if err := s.read(g.Group, g.Meta); err != nil {
			return fmt.Errorf("vote store: slot %d: %w", g.Group, err)
		}
		s.next = max(s.next, g.Group+1)
	}
	if len(groups) > 0 && s.uuid.IsZero() {
		return errors.New("vote store: it holds records but no identity")
	}
	used := make(map[id.Group]bool, len(groups))
	for _, g := range groups {
		used[g.Group] = true
	}
	for slot := identitySlot + 1; slot < s.next; slot++ {
		if !used[slot] {
			s.free = append(s.free, slot)
		}
	}
	if !s.uuid.IsZero() {
		return nil
	}
	s.uuid = id.NewUUID()
	if err := s.log.Append([]wal.Op{s.identityOp()}); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := s.log.Flush(); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := s.log.Sync(); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// Log returns the log that operations are appended to. The owner closes it.
func (s *Store) Log() *wal.Log { return s.log }

// UUID names the directory.
func (s *Store) UUID() id.UUID { return s.uuid }

// Generation returns the Seq of the last Write in the store.
func (s *Store) Generation() uint64 { return s.generation }

// Records returns what OpenStore has read, ordered by Key, once.
func (s *Store) Records() []Record {
	out := s.records
	s.records = nil
	slices.SortFunc(out, func(a, b Record) int { return a.Compare(b.Key) })
	return out
}

// Ops turns a Write of the machine into operations of the log.
func (s *Store) Ops(w Write) []wal.Op {
	ops := make([]wal.Op, 0, 1+len(w.Records)+len(w.Removed))
	for i := range w.Records {
		rec := &w.Records[i]
		slot, ok := s.slots[rec.Key]
		if !ok {
			slot = s.take()
			s.slots[rec.Key] = slot
		}
		ops = append(ops, wal.Op{Group: slot, Meta: appendRecord(nil, rec)})
	}
	for _, k := range w.Removed {
		ops = append(ops, wal.Op{Group: s.slots[k], Drop: true})
		s.free = append(s.free, s.slots[k])
		delete(s.slots, k)
	}
	s.generation = w.Seq
	return append(ops, s.identityOp())
}

// take returns a slot that nothing has.
func (s *Store) take() id.Group {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot
	}
	s.next++
	return s.next - 1
}

// ---- clusters ----

// Secret returns the secret of a cluster. It is a peer.Keyring's method.
func (s *Store) Secret(c id.Cluster) (peer.Secret, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.mu.clusters[c]
	if k == nil {
		return peer.Secret{}, false
	}
	return k.secret, true
}

// Lookup says which cluster has a host with that end point, and where its other
// hosts are.
func (s *Store) Lookup(addr string) (c id.Cluster, host id.Host, others []string, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range slices.Sorted(maps.Keys(s.mu.clusters)) {
		for n, m := range s.mu.clusters[c].hosts {
			if m.Addr == addr {
				host, ok = n, true
			} else if m.Addr != "" {
				others = append(others, m.Addr)
			}
		}
		if ok {
			slices.Sort(others)
			return c, host, others, true
		}
		others = nil
	}
	return 0, 0, nil, false
}

// Clusters returns the hosts of all known clusters.
func (s *Store) Clusters() map[id.Cluster]map[id.Host]Member {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[id.Cluster]map[id.Host]Member, len(s.mu.clusters))
	for c, k := range s.mu.clusters {
		out[c] = maps.Clone(k.hosts)
	}
	return out
}

// Adopt remembers the secret of a cluster that has introduced itself, and
// returns the operation that makes it durable. False: there is no room.
func (s *Store) Adopt(c id.Cluster, secret peer.Secret) (wal.Op, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.clusters) >= maxClusters {
		return wal.Op{}, false
	}
	k := &knownCluster{slot: s.take(), secret: secret, hosts: make(map[id.Host]Member)}
	s.mu.clusters[c] = k
	return wal.Op{Group: k.slot, Meta: appendCluster(nil, c, k)}, true
}

// Note remembers where a host was heard from, and its directory if that is new.
// It returns the operation that makes it durable, and false when it was known
// already.
func (s *Store) Note(r peer.Remote) (wal.Op, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.clusters[r.Cluster]
	if k == nil || !k.note(r) {
		return wal.Op{}, false
	}
	delete(s.mu.unsaved, r.Cluster)
	return wal.Op{Group: k.slot, Meta: appendCluster(nil, r.Cluster, k)}, true
}

// note reports whether r is news.
func (k *knownCluster) note(r peer.Remote) bool {
	if r.Host == 0 || r.Addr == "" || len(r.Addr) > maxAddr {
		return false
	}
	m, known := k.hosts[r.Host]
	if known && m.UUID == r.UUID && m.Addr == r.Addr {
		return false
	}
	if m.UUID != r.UUID {
		m = Member{UUID: r.UUID, Seen: peer.Sighting{Start: r.Start, Highest: r.Start.Sequence}}
	}
	m.Addr = r.Addr
	if !known && len(k.hosts) >= maxMembers {
		delete(k.hosts, slices.Min(slices.Collect(maps.Keys(k.hosts)))) // the longest gone, as numbers grow
	}
	k.hosts[r.Host] = m
	return true
}

// ---- format (docs/format/votes.md) ----

// What a slot holds: the first byte of its Meta.
const (
	slotIdentity byte = 1
	slotCluster  byte = 2
	slotRecord   byte = 3
	slotStarts   byte = 4
)

// storeVersion is the version of the format, kept in the identity.
const storeVersion = 1

func (s *Store) identityOp() wal.Op {
	b := append([]byte{slotIdentity, storeVersion}, s.uuid[:]...)
	return wal.Op{Group: identitySlot, Meta: binary.LittleEndian.AppendUint64(b, s.generation)}
}

func appendCluster(b []byte, c id.Cluster, k *knownCluster) []byte {
	b = append(b, slotCluster)
	b = binary.LittleEndian.AppendUint64(b, uint64(c))
	b = append(b, k.secret[:]...)
	b = binary.AppendUvarint(b, uint64(len(k.hosts)))
	for _, host := range slices.Sorted(maps.Keys(k.hosts)) {
		m := k.hosts[host]
		b = binary.AppendUvarint(b, uint64(host))
		b = append(b, m.UUID[:]...)
		b = append(b, byte(len(m.Addr)))
		b = append(b, m.Addr...)
		b = binary.AppendUvarint(b, m.Seen.Boot)
		b = binary.LittleEndian.AppendUint64(b, m.Seen.Nonce)
		b = binary.AppendUvarint(b, m.Seen.Sequence)
		b = binary.AppendUvarint(b, m.Seen.Highest)
	}
	return b
}

func appendStarts(b []byte, o *peer.Offer) []byte {
	return peer.AppendOffer(append(b, slotStarts), o)
}

// Flags of a record.
const (
	recordTainted = 1
	recordRetired = 2
)

func appendRecord(b []byte, r *Record) []byte {
	flags := byte(0)
	if r.Tainted {
		flags |= recordTainted
	}
	if r.Retired {
		flags |= recordRetired
	}
	b = append(b, slotRecord, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Cluster))
	for _, v := range [...]uint64{
		uint64(r.Group), uint64(r.Replica), uint64(r.Term), uint64(r.Vote), uint64(r.Commit), uint64(r.CommitTerm),
		uint64(r.Last), uint64(len(r.Runs)),
	} {
		b = binary.AppendUvarint(b, v)
	}
	for _, run := range r.Runs {
		b = binary.AppendUvarint(b, uint64(run.First))
		b = binary.AppendUvarint(b, uint64(run.Term))
	}
	return b
}

// read takes in what a slot holds.
func (s *Store) read(slot id.Group, meta []byte) error {
	d := metaReader{b: meta}
	switch kind := d.bytes(1)[0]; kind {
	case slotIdentity:
		if version := d.bytes(1)[0]; version != storeVersion && d.err == nil {
			return fmt.Errorf("format %d: this program reads %d", version, storeVersion)
		}
		s.uuid = id.UUID(d.bytes(16))
		s.generation = binary.LittleEndian.Uint64(d.bytes(8))
	case slotCluster:
		c, k := d.cluster()
		k.slot = slot
		s.mu.clusters[c] = k
	case slotRecord:
		rec := d.record()
		if d.err == nil {
			d.err = rec.Check()
		}
		if _, twice := s.slots[rec.Key]; twice && d.err == nil {
			d.err = fmt.Errorf("group %d of cluster %d has two records", rec.Group, rec.Cluster)
		}
		s.slots[rec.Key] = slot
		s.records = append(s.records, rec)
	case slotStarts:
		var err error
		if s.starts, err = peer.DecodeOffer(d.b); err != nil || s.startsSlot != 0 {
			return cmp.Or(err, errors.New("the starts stand there twice"))
		}
		s.startsSlot, d.b = slot, nil
	default:
		return cmp.Or(d.err, fmt.Errorf("unknown kind %d", kind))
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return d.err
}

// metaReader reads from b. After the first error it returns zeros.
type metaReader struct {
	b   []byte
	err error
}

var errShort = errors.New("it ends too early")

// bytes returns the next n bytes: zeros after an error.
func (d *metaReader) bytes(n int) []byte {
	if len(d.b) < n {
		d.err, d.b = cmp.Or(d.err, errShort), nil
		return make([]byte, n)
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *metaReader) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err, d.b = cmp.Or(d.err, errShort), nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many things of at least size bytes follow.
func (d *metaReader) count(limit, size int) int {
	n := d.uvarint()
	if n > uint64(limit) || n > uint64(len(d.b)/size) {
		d.err, d.b = cmp.Or(d.err, errShort), nil
		return 0
	}
	return int(n)
}

func (d *metaReader) cluster() (id.Cluster, *knownCluster) {
	c := id.Cluster(binary.LittleEndian.Uint64(d.bytes(8)))
	k := &knownCluster{secret: peer.Secret(d.bytes(32)), hosts: make(map[id.Host]Member)}
	for range d.count(maxMembers, 29) {
		host := id.Host(d.uvarint())
		m := Member{UUID: id.UUID(d.bytes(16))}
		m.Addr = string(d.bytes(int(d.bytes(1)[0])))
		m.Seen.Boot, m.Seen.Nonce = d.uvarint(), binary.LittleEndian.Uint64(d.bytes(8))
		m.Seen.Sequence, m.Seen.Highest = d.uvarint(), d.uvarint()
		k.hosts[host] = m
	}
	return c, k
}

func (d *metaReader) record() Record {
	flags := d.bytes(1)[0]
	r := Record{
		Key:  Key{Cluster: id.Cluster(binary.LittleEndian.Uint64(d.bytes(8)))},
		Term: 0, Tainted: flags&recordTainted != 0, Retired: flags&recordRetired != 0,
	}
	r.Group, r.Replica = id.Group(d.uvarint()), id.Replica(d.uvarint())
	r.Term, r.Vote = id.Term(d.uvarint()), id.Replica(d.uvarint())
	r.Commit, r.CommitTerm, r.Last = id.Index(d.uvarint()), id.Term(d.uvarint()), id.Index(d.uvarint())
	if n := d.count(maxRecordRuns, 2); n > 0 {
		r.Runs = make([]peer.Run, n)
		for i := range r.Runs {
			r.Runs[i] = peer.Run{First: id.Index(d.uvarint()), Term: id.Term(d.uvarint())}
		}
	}
	if flags&^(recordTainted|recordRetired) != 0 {
		d.err = cmp.Or(d.err, fmt.Errorf("unknown flags 0x%02x", flags))
	}
	return r
}
