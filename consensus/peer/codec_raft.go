package peer

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// The fields of a Raft message that are present on the wire, in wire order.
// Absent ones are zero.
const (
	hasTerm = 1 << iota
	hasLogTerm
	hasIndex
	hasCommit
	hasVote
	hasRejectHint
	isReject
	hasContext
	hasSnapshot
	hasEntries
	hasLease
	hasEnds // From and To differ from those of the Message
	knownFields
)

// The head of an entry: its type in the two lowest bits, and what does not
// follow from the entry before it.
const (
	entryType    = 3
	entryIndex   = 4 // not one more than before
	entryTerm    = 8 // not the same as before
	entryHeadEnd = 16
)

// minEntry is the length of the shortest entry: head and length of data.
const minEntry = 2

// entryTypes are shared by all decoded entries, which nobody changes.
var entryTypes = [...]*raftpb.EntryType{
	nil, // EntryNormal is what a nil type means
	raftpb.EntryConfChange.Enum(),
	raftpb.EntryConfChangeV2.Enum(),
}

func appendRaft(dst []byte, m *Message) []byte {
	r := m.Raft
	numbers := [...]uint64{r.GetTerm(), r.GetLogTerm(), r.GetIndex(), r.GetCommit(), r.GetVote(), r.GetRejectHint()}
	fields := uint16(0)
	for i, v := range numbers {
		if v != 0 {
			fields |= 1 << i
		}
	}
	for i, present := range [...]bool{
		r.GetReject(), len(r.GetContext()) > 0, r.GetSnapshot() != nil, len(r.GetEntries()) > 0, m.Lease,
		r.GetFrom() != uint64(m.From) || r.GetTo() != uint64(m.To),
	} {
		if present {
			fields |= isReject << i
		}
	}
	dst = append(dst, byte(r.GetType()))
	dst = binary.LittleEndian.AppendUint16(dst, fields)
	for _, v := range numbers {
		if v != 0 {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	if fields&hasEnds != 0 {
		dst = binary.AppendUvarint(dst, r.GetFrom())
		dst = binary.AppendUvarint(dst, r.GetTo())
	}
	if fields&hasContext != 0 {
		dst = appendBytes(dst, r.GetContext())
	}
	if fields&hasSnapshot != 0 {
		dst = appendSnapshot(dst, r.GetSnapshot())
	}
	if fields&hasEntries != 0 {
		dst = appendEntries(dst, r)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendEntries(dst []byte, r *raftpb.Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(r.GetEntries())))
	index, term := r.GetIndex(), r.GetLogTerm()
	for _, e := range r.GetEntries() {
		head := byte(e.GetType())
		index++
		if e.GetIndex() != index {
			head |= entryIndex
		}
		if e.GetTerm() != term {
			head |= entryTerm
		}
		dst = append(dst, head)
		if head&entryIndex != 0 {
			index = e.GetIndex()
			dst = binary.AppendUvarint(dst, index)
		}
		if head&entryTerm != 0 {
			term = e.GetTerm()
			dst = binary.AppendUvarint(dst, term)
		}
		dst = appendBytes(dst, e.GetData())
	}
	return dst
}

func appendSnapshot(dst []byte, s *raftpb.Snapshot) []byte {
	meta := s.GetMetadata()
	conf := meta.GetConfState()
	dst = binary.AppendUvarint(dst, meta.GetIndex())
	dst = binary.AppendUvarint(dst, meta.GetTerm())
	for _, ids := range [...][]uint64{conf.GetVoters(), conf.GetLearners(), conf.GetVotersOutgoing(), conf.GetLearnersNext()} {
		dst = binary.AppendUvarint(dst, uint64(len(ids)))
		for _, v := range ids {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	dst = append(dst, bits(conf.GetAutoLeave()))
	return appendBytes(dst, s.GetData())
}

// raftMessage is a Raft message and the room for its numbers, in one
// allocation.
type raftMessage struct {
	raftpb.Message
	kind    raftpb.MessageType
	numbers [6]uint64
	ends    [2]uint64
}

func (d *decoder) raft(m *Message) {
	r := new(raftMessage)
	r.kind = raftpb.MessageType(d.byte())
	if _, ok := raftpb.MessageType_name[int32(r.kind)]; !ok {
		d.fail(fmt.Errorf("unknown Raft message %d", r.kind))
		return
	}
	fields := uint16(d.byte()) | uint16(d.byte())<<8
	if fields >= knownFields {
		d.fail(fmt.Errorf("unknown Raft fields 0x%04x", fields))
		return
	}
	r.Type = &r.kind
	for i, field := range [...]**uint64{&r.Term, &r.LogTerm, &r.Index, &r.Commit, &r.Vote, &r.RejectHint} {
		if fields&(1<<i) != 0 {
			r.numbers[i] = d.uvarint()
			*field = &r.numbers[i]
		}
	}
	r.ends = [2]uint64{uint64(m.From), uint64(m.To)}
	if fields&hasEnds != 0 {
		r.ends = [2]uint64{d.uvarint(), d.uvarint()}
	}
	r.From, r.To = &r.ends[0], &r.ends[1]
	if fields&isReject != 0 {
		r.Reject = new(true)
	}
	if fields&hasContext != 0 {
		r.Context = d.bytes(d.uvarint())
	}
	if fields&hasSnapshot != 0 {
		r.Snapshot = d.snapshot()
	}
	if fields&hasEntries != 0 {
		r.Entries = d.entriesOf(r.GetIndex(), r.GetLogTerm())
	}
	m.Lease = fields&hasLease != 0
	m.Raft = &r.Message
}

// entriesOf reads entries into three allocations, however many they are.
func (d *decoder) entriesOf(index, term uint64) []*raftpb.Entry {
	n := d.count(uint64(d.entries), minEntry)
	d.entries -= n
	entries := make([]*raftpb.Entry, n)
	values := make([]raftpb.Entry, n)
	numbers := make([]uint64, 2*n)
	for i := range entries {
		head := d.byte()
		kind := head & entryType
		if head >= entryHeadEnd || int(kind) >= len(entryTypes) {
			d.fail(fmt.Errorf("entry head 0x%02x", head))
		}
		if index++; head&entryIndex != 0 {
			index = d.uvarint()
		}
		if head&entryTerm != 0 {
			term = d.uvarint()
		}
		data := d.bytes(d.uvarint())
		if d.err != nil {
			return nil
		}
		e, at := &values[i], numbers[2*i:2*i+2]
		at[0], at[1] = index, term
		e.Index, e.Term, e.Type, e.Data = &at[0], &at[1], entryTypes[kind], data
		entries[i] = e
	}
	return entries
}

func (d *decoder) snapshot() *raftpb.Snapshot {
	meta := &raftpb.SnapshotMetadata{Index: new(d.uvarint()), Term: new(d.uvarint())}
	conf := new(raftpb.ConfState)
	for _, ids := range [...]*[]uint64{&conf.Voters, &conf.Learners, &conf.VotersOutgoing, &conf.LearnersNext} {
		n := d.count(maxMembers, 1)
		for range n {
			*ids = append(*ids, d.uvarint())
		}
	}
	conf.AutoLeave = new(d.flags(1) != 0)
	meta.ConfState = conf
	return &raftpb.Snapshot{Metadata: meta, Data: d.bytes(d.uvarint())}
}

// maxMembers bounds each list of replicas in a configuration.
const maxMembers = 64
