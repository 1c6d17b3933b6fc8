package mnode

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Command is one change of the metadata, as it stands in the log
// (docs/format/mnode.md). It is checked when it is applied, against the state
// that all replicas have at that entry: two commands that contradict each
// other are settled by the order of the log.
type Command interface {
	kind() kind
	// apply changes v, a copy that nobody else sees, or refuses and leaves it
	// as it was. It reads no clock: now is what the proposer's clock said.
	apply(v *View, now time.Time) Result
}

// Result is what a command did: a refusal, or the number that it handed out.
type Result struct {
	Number uint64 `json:",omitempty"` // dnode, replica or group; 0 if none
	Err    *Error `json:",omitempty"`
}

// Error returns the refusal, nil if there was none.
func (r Result) Error() error {
	if r.Err == nil {
		return nil
	}
	return r.Err
}

// Envelope is a Command with what the log needs to know about it.
type Envelope struct {
	Request Request
	At      time.Time // the proposer's clock
	Command Command
}

// kind is a command's number in the log: never reused, never changed.
type kind uint8

const (
	kindFound          kind = 1
	kindCreateDnode    kind = 2
	kindAdmitDnode     kind = 3
	kindMoveDnode      kind = 4
	kindDropDnode      kind = 5
	kindRemoveDnode    kind = 6
	kindCreateUser     kind = 7
	kindAlterUser      kind = 8
	kindDropUser       kind = 9
	kindCreateDatabase kind = 10
	kindDropDatabase   kind = 11
	kindFormGroup      kind = 12
	kindRemoveGroup    kind = 13
	kindSetArbitrator  kind = 14
	kindAddMember      kind = 15
	kindSetVoters      kind = 16
	kindForgetMember   kind = 17
	kindNoteFailover   kind = 30
	kindRecover        kind = 31
	kindRestoreDnode   kind = 18
	kindKeepDnode      kind = 19
	kindMarkOffline    kind = 20
	kindAlterReplica   kind = 21
)

// kinds makes an empty command of each kind.
var kinds = map[kind]func() Command{
	kindFound:          func() Command { return new(Found) },
	kindCreateDnode:    func() Command { return new(CreateDnode) },
	kindAdmitDnode:     func() Command { return new(AdmitDnode) },
	kindMoveDnode:      func() Command { return new(MoveDnode) },
	kindDropDnode:      func() Command { return new(DropDnode) },
	kindRemoveDnode:    func() Command { return new(RemoveDnode) },
	kindCreateUser:     func() Command { return new(CreateUser) },
	kindAlterUser:      func() Command { return new(AlterUser) },
	kindDropUser:       func() Command { return new(DropUser) },
	kindCreateDatabase: func() Command { return new(CreateDatabase) },
	kindDropDatabase:   func() Command { return new(DropDatabase) },
	kindFormGroup:      func() Command { return new(FormGroup) },
	kindRemoveGroup:    func() Command { return new(RemoveGroup) },
	kindSetArbitrator:  func() Command { return new(SetArbitrator) },
	kindAddMember:      func() Command { return new(AddMember) },
	kindSetVoters:      func() Command { return new(SetVoters) },
	kindForgetMember:   func() Command { return new(ForgetMember) },
	kindNoteFailover:   func() Command { return new(NoteFailover) },
	kindRecover:        func() Command { return new(Recover) },
	kindRestoreDnode:   func() Command { return new(RestoreDnode) },
	kindKeepDnode:      func() Command { return new(KeepDnode) },
	kindMarkOffline:    func() Command { return new(MarkOffline) },
	kindAlterReplica:   func() Command { return new(AlterReplica) },
}

const (
	commandVersion = 1
	// commandHeader is version, kind, boot, sequence, time.
	commandHeader = 1 + 1 + 8 + 8 + 8
	// MaxCommand bounds one command, in bytes.
	MaxCommand = 1 << 20
)

// ErrNewer says that a command or a state was written by a newer version. A replica
// that skipped what it does not know would silently differ from the others, so it
// stops instead.
var ErrNewer = errors.New("a newer version wrote it: upgrade this host")

// Encode returns the bytes that go into the log.
func (e Envelope) Encode() ([]byte, error) {
	body, err := json.Marshal(e.Command)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", e.Command.kind(), err)
	}
	if len(body) > MaxCommand-commandHeader {
		return nil, fail(CodeParameter, "statement too large: %d bytes of metadata, at most %d", len(body), MaxCommand)
	}
	b := make([]byte, 0, commandHeader+len(body))
	b = append(b, commandVersion, byte(e.Command.kind()))
	b = binary.LittleEndian.AppendUint64(b, e.Request.Boot)
	b = binary.LittleEndian.AppendUint64(b, e.Request.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.At.UnixNano()))
	return append(b, body...), nil
}

// DecodeEnvelope reads what Encode wrote. A field that it does not know is an
// error: it must not be lost silently.
func DecodeEnvelope(b []byte) (Envelope, error) {
	if len(b) < commandHeader || len(b) > MaxCommand {
		return Envelope{}, fmt.Errorf("decode command: %d bytes, want %d to %d", len(b), commandHeader, MaxCommand)
	}
	if b[0] != commandVersion {
		return Envelope{}, fmt.Errorf("decode command: version %d: %w", b[0], ErrNewer)
	}
	blank, ok := kinds[kind(b[1])]
	if !ok {
		return Envelope{}, fmt.Errorf("decode command: kind %d: %w", b[1], ErrNewer)
	}
	e := Envelope{
		Request: Request{Boot: binary.LittleEndian.Uint64(b[2:]), Seq: binary.LittleEndian.Uint64(b[10:])},
		At:      time.Unix(0, int64(binary.LittleEndian.Uint64(b[18:]))).UTC(),
	}
	c := blank()
	if err := decodeStrict(b[commandHeader:], c); err != nil {
		return Envelope{}, fmt.Errorf("decode command %d: %w: %w", b[1], err, ErrNewer)
	}
	e.Command = reflect.ValueOf(c).Elem().Interface().(Command) // by value: a command is not changed
	return e, nil
}

// decodeStrict reads one JSON value, the whole of b, without unknown fields.
func decodeStrict(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the end")
	}
	return nil
}

// The commands.
type (
	// Found is the first command of a cluster: its birth.
	Found struct {
		Cluster    id.Cluster
		Name       string
		Secret     Secret
		EndPoint   string
		UUID       id.UUID
		Arbitrator string  // as configured, empty if none
		Witness    id.UUID // zero if it has not answered
		RootHash   string
	}

	// CreateDnode admits the host that will report from EndPoint.
	CreateDnode struct{ EndPoint string }

	// AdmitDnode binds a directory to the dnode that was created for EndPoint.
	AdmitDnode struct {
		EndPoint string
		UUID     id.UUID
		Proof    Proof `json:",omitzero"` // that a later one is the same host's
	}

	// MoveDnode notes that a member answers at another address now.
	MoveDnode struct {
		UUID     id.UUID
		EndPoint string
	}

	// DropDnode starts to remove a dnode.
	DropDnode struct{ Dnode id.Host }

	// RemoveDnode ends it: the dnode becomes a tombstone.
	RemoveDnode struct{ Dnode id.Host }

	// CreateUser, AlterUser and DropUser keep the accounts.
	CreateUser struct{ Name, Hash string }

	// AlterUser gives a user another password.
	AlterUser struct{ Name, Hash string }

	// DropUser removes a user. root stays.
	DropUser struct{ Name string }

	// CreateDatabase reserves the name and places the shards.
	CreateDatabase struct {
		Name    string
		Options Options
		// Candidates are the hosts that may get replicas, the better first: the
		// proposer knows who answers, the state does not.
		Candidates []id.Host
	}

	// DropDatabase frees the name and dooms the shards.
	DropDatabase struct{ Name string }

	// FormGroup says that every member has confirmed its replica (R40).
	FormGroup struct {
		Group id.Group
		Epoch uint64
	}

	// RemoveGroup says that every member has removed its replica.
	RemoveGroup struct {
		Group id.Group
		Epoch uint64
	}

	// SetArbitrator notes which arbitrator is in force, and which directory
	// answers there.
	SetArbitrator struct {
		EndPoint   string  // empty: none
		UUID       id.UUID // zero: the one that is known, if any
		Configured string  `json:",omitempty"` // as Arbitrator.Configured
	}

	// AddMember gives out a replica id and binds it to a directory (R38). With
	// Dnode zero the member is the arbitrator. As is the id that it is to get: if
	// that was given out meanwhile, the plan was made from an older record and has
	// counted one member too few.
	AddMember struct {
		Group id.Group
		Dnode id.Host
		UUID  id.UUID
		As    id.Replica `json:",omitempty"` // zero, in old logs: any
	}

	// SetVoters notes a membership change that Raft has applied: these are the
	// group's voters now; a former one is leaving.
	SetVoters struct {
		Group  id.Group
		Voters []id.Replica
	}

	// ForgetMember strikes out a member that is leaving and gone, or one that
	// never came to vote.
	ForgetMember struct {
		Group   id.Group
		Replica id.Replica
	}

	// RestoreDnode gives the dnode's place to the next empty directory that
	// reports from its end point. What it had is gone.
	RestoreDnode struct{ Dnode id.Host }

	// KeepDnode takes that back: the dnode's own directory has come.
	KeepDnode struct{ Dnode id.Host }

	// MarkOffline notes since when nobody has heard of a dnode, or with the zero
	// time that it is there again: the time that offlineThreshold bounds outlives
	// a master.
	MarkOffline struct {
		Dnode id.Host
		Since time.Time
	}

	// AlterReplica says how many data replicas every shard of a database shall
	// have. Getting there is left to the plan.
	AlterReplica struct {
		Name    string
		Replica int
	}
)

func (Found) kind() kind          { return kindFound }
func (CreateDnode) kind() kind    { return kindCreateDnode }
func (AdmitDnode) kind() kind     { return kindAdmitDnode }
func (MoveDnode) kind() kind      { return kindMoveDnode }
func (DropDnode) kind() kind      { return kindDropDnode }
func (RemoveDnode) kind() kind    { return kindRemoveDnode }
func (CreateUser) kind() kind     { return kindCreateUser }
func (AlterUser) kind() kind      { return kindAlterUser }
func (DropUser) kind() kind       { return kindDropUser }
func (CreateDatabase) kind() kind { return kindCreateDatabase }
func (DropDatabase) kind() kind   { return kindDropDatabase }
func (FormGroup) kind() kind      { return kindFormGroup }
func (RemoveGroup) kind() kind    { return kindRemoveGroup }
func (SetArbitrator) kind() kind  { return kindSetArbitrator }
func (AddMember) kind() kind      { return kindAddMember }
func (SetVoters) kind() kind      { return kindSetVoters }
func (ForgetMember) kind() kind   { return kindForgetMember }
func (RestoreDnode) kind() kind   { return kindRestoreDnode }
func (KeepDnode) kind() kind      { return kindKeepDnode }
func (MarkOffline) kind() kind    { return kindMarkOffline }
func (AlterReplica) kind() kind   { return kindAlterReplica }
