package arbitrator

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The hosts and directories of the stories.
var (
	hostA     = id.UUID{0xa}
	hostB     = id.UUID{0xb}
	own       = id.UUID{0xf}
	elsewhere = id.UUID{0xe}
)

const tale = id.Cluster(9) // the cluster of the stories

// story drives one machine by the commands of a script, over a store that
// forgets what was not synced.
type story struct {
	m       *Machine
	now     time.Duration
	store   map[Key]Record
	pending []Write
	durable uint64
}

func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{m: NewMachine(DefaultConfig(), own, 0, nil), store: map[Key]Record{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.do(t, d)
		})
	})
}

func (s *story) do(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "say": // one frame: host, then a message per line
		r := Received{Cluster: tale, From: hostA, To: own}
		for _, arg := range d.CmdArgs {
			switch arg.Key {
			case "b":
				r.From = hostB
			case "to-elsewhere":
				r.To = elsewhere
			default:
				d.Fatalf(t, "unknown argument %s", arg.Key)
			}
		}
		for line := range strings.Lines(d.Input) {
			r.Messages = append(r.Messages, parseMessage(t, line))
		}
		return s.show(s.m.Step(s.now, []Event{r}))
	case "sync":
		for _, w := range s.pending {
			for _, k := range w.Removed {
				delete(s.store, k)
			}
			for _, rec := range w.Records {
				s.store[rec.Key] = rec
			}
			s.durable = w.Seq
		}
		s.pending = nil
		return s.show(s.m.Step(s.now, []Event{Synced{Seq: s.durable}}))
	case "after":
		d, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		s.now += d
		return ""
	case "restart": // what was not synced is gone
		var records []Record
		for _, rec := range s.store {
			if err := rec.Check(); err != nil {
				t.Fatal(err)
			}
			records = append(records, rec)
		}
		s.m, s.pending = NewMachine(DefaultConfig(), own, s.durable, records), nil
		return s.records()
	case "rolled-back":
		return s.show(s.m.Step(s.now, []Event{RolledBack{Cluster: tale}}))
	case "records":
		return s.records()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	}
}

func (s *story) records() string {
	var b strings.Builder
	for _, rec := range s.m.Records() {
		fmt.Fprintf(&b, "%s\n", showRecord(rec))
	}
	return b.String()
}

func (s *story) show(effects []Effect) string {
	var b strings.Builder
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			s.pending = append(s.pending, e)
			for _, rec := range e.Records {
				fmt.Fprintf(&b, "write %d: %s\n", e.Seq, showRecord(rec))
			}
			for _, k := range e.Removed {
				fmt.Fprintf(&b, "write %d: remove %d/%d\n", e.Seq, k.Group, k.Replica)
			}
		case Send:
			name := "a"
			if e.To == hostB {
				name = "b"
			}
			for _, msg := range e.Messages {
				fmt.Fprintf(&b, "to %s: %s\n", name, showMessage(msg))
			}
		case Report:
			bad := ""
			if e.Bad {
				bad = "ALARM "
			}
			fmt.Fprintf(&b, "%s%s %v\n", bad, e.What, e.Args[2:])
		}
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()
}

func showRecord(r Record) string {
	if r.Retired {
		return fmt.Sprintf("%d/%d retired", r.Group, r.Replica)
	}
	s := fmt.Sprintf("%d/%d term %d vote %d commit %d (term %d) last %d", r.Group, r.Replica, r.Term, r.Vote, r.Commit, r.CommitTerm, r.Last)
	for _, run := range r.Runs {
		s += fmt.Sprintf(" %d:%d", run.First, run.Term)
	}
	if r.Tainted {
		s += " TAINTED"
	}
	return s
}

func showMessage(m peer.Message) string {
	head := fmt.Sprintf("%d/%d->%d ", m.Group, m.From, m.To)
	switch m.Kind {
	case peer.KindRaft:
		s := fmt.Sprintf("%s%s term %d", head, m.Raft.GetType(), m.Raft.GetTerm())
		if m.Raft.GetReject() {
			s += " reject"
		}
		return s
	case peer.KindAnswer:
		s := fmt.Sprintf("%sanswer %d term %d last %d generation %d", head, m.Answer.Seq, m.Answer.Term, m.Answer.Last, m.Answer.Generation)
		if m.Answer.Reject {
			s += " reject"
		}
		return s
	case peer.KindRefusal:
		return head + "refused: " + m.Refusal.String()
	case peer.KindEnrolled:
		return head + "enrolled"
	case peer.KindRetired:
		return head + "retired"
	case peer.KindPong:
		return "pong"
	case peer.KindPosition:
		return fmt.Sprintf("%sposition term %d last %d", head, m.Term, m.Index)
	}
	return fmt.Sprintf("%skind %d", head, m.Kind)
}

// parseMessage reads "feed 7/3 from=1 seq=1 ..." and the like.
func parseMessage(t *testing.T, line string) peer.Message {
	t.Helper()
	words := strings.Fields(line)
	n := map[string]uint64{}
	flag := map[string]bool{}
	var m peer.Message
	var runs []peer.Run
	witness := own
	for i, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		switch {
		case i == 0 && strings.Contains(w, "/"):
			if _, err := fmt.Sscanf(w, "%d/%d", &m.Group, &m.To); err != nil {
				t.Fatal(err)
			}
		case key == "witness":
			witness = elsewhere
		case key == "runs":
			for _, r := range strings.Split(value, ",") {
				var run peer.Run
				if _, err := fmt.Sscanf(r, "%d:%d", &run.First, &run.Term); err != nil {
					t.Fatal(err)
				}
				runs = append(runs, run)
			}
		case ok:
			v, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n[key] = v
		default:
			flag[w] = true
		}
	}
	m.From = id.Replica(n["from"])
	raft := func(kind raftpb.MessageType) {
		m.Kind, m.Lease = peer.KindRaft, flag["lease"]
		m.Raft = &raftpb.Message{
			Type: kind.Enum(), From: new(n["from"]), To: new(uint64(m.To)), Term: new(n["term"]),
			Index: new(n["last"]), LogTerm: new(n["lastterm"]), Commit: new(n["commit"]),
		}
		if flag["transfer"] {
			m.Raft.Context = campaignTransfer
		}
		if flag["a-is-gone"] {
			m.Raft.Context = peer.LeaderGone(hostA)
		}
		if flag["b-is-gone"] {
			m.Raft.Context = peer.LeaderGone(hostB)
		}
	}
	switch words[0] {
	case "enroll":
		m.Kind, m.Enroll = peer.KindEnroll, &peer.Enroll{Witness: witness}
	case "retire":
		m.Kind, m.Enroll = peer.KindRetire, &peer.Enroll{Witness: witness}
	case "position":
		m.Kind = peer.KindPosition
	case "ping":
		m.Kind = peer.KindPing
	case "goodbye":
		m.Kind = peer.KindGoodbye
	case "vote":
		raft(raftpb.MsgVote)
	case "prevote":
		raft(raftpb.MsgPreVote)
	case "beat":
		raft(raftpb.MsgHeartbeat)
	case "append":
		raft(raftpb.MsgApp)
	case "timeoutnow":
		raft(raftpb.MsgTimeoutNow)
	case "feed":
		m.Kind = peer.KindFeed
		m.Feed = &peer.Feed{
			Seq: n["seq"], Term: id.Term(n["term"]), Base: id.Index(n["base"]), BaseTerm: id.Term(n["baseterm"]),
			BaseCommitted: flag["committed"], Runs: runs, Last: id.Index(n["last"]), Commit: id.Index(n["commit"]), Lease: flag["lease"],
		}
	default:
		t.Fatalf("unknown message %q", words[0])
	}
	return m
}
