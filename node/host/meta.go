package host

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// The methods that reach the mnode master.
const (
	methodExec     = "mnode.exec"     // [index of the caller's View][envelope] -> execAnswer
	methodView     = "mnode.view"     // [index of the caller's View] -> View, empty if not newer
	methodReport   = "mnode.report"   // mnode.Report -> mnode.Answer
	methodChange   = "group.change"   // consensus.Change, to the leader of the group
	methodTransfer = "group.transfer" // replica u64, to the leader of the group
	callPush       = "host.view"      // View, to any host
)

// execAnswer is what a statement did, and the View that holds it.
type execAnswer struct {
	Result mnode.Result
	View   json.RawMessage `json:",omitempty"`
	// Creating: the statement was done, but the database can't be used yet.
	Creating *mnode.Error `json:",omitempty"`
}

// registerCalls offers what other hosts and guests call.
func (h *Host) registerCalls() {
	h.net.Handle(callLookup, true, h.answerLookup)
	h.net.Handle(callJoin, true, h.answerJoin)
	h.net.Handle(callPush, false, h.servePush)
	h.Handle(callJoin, h.serveJoin)
	h.Handle(methodExec, h.serveExec)
	h.Handle(methodView, h.serveView)
	h.Handle(methodReport, h.serveReport)
	h.Handle(methodChange, h.serveChange)
	h.Handle(methodTransfer, h.serveTransfer)
}

// exec runs one command on the mnode master and returns once this host's own
// View holds what it did. A repetition inside it does not run twice: it carries
// an id.
func (h *Host) exec(ctx context.Context, c mnode.Command) (mnode.Result, error) {
	request := mnode.Request{Boot: h.Boot(), Seq: h.sequence.Add(1)}
	envelope, err := mnode.Envelope{Request: request, Command: c}.Encode()
	if err != nil {
		return mnode.Result{}, err
	}
	body := binary.LittleEndian.AppendUint64(nil, uint64(h.View().Index))
	reply, err := h.Forward(ctx, id.Mnode, methodExec, append(body, envelope...))
	if err != nil {
		return mnode.Result{}, err
	}
	var a execAnswer
	if err := json.Unmarshal(reply, &a); err != nil {
		return mnode.Result{}, fmt.Errorf("read the mnode's answer: %w: %w", consensus.ErrUnknownOutcome, err)
	}
	if len(a.View) > 0 {
		v, err := mnode.DecodeView(a.View)
		if err != nil {
			return mnode.Result{}, err
		}
		h.adopt(v)
	}
	if a.Creating != nil {
		return a.Result, a.Creating
	}
	return a.Result, a.Result.Error()
}

func (h *Host) serveExec(ctx context.Context, _ id.UUID, _ id.Group, body []byte) ([]byte, error) {
	if len(body) < 8 {
		return nil, errors.New("read statement: too short")
	}
	seen := id.Index(binary.LittleEndian.Uint64(body))
	e, err := mnode.DecodeEnvelope(body[8:])
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	m, err := h.master()
	if err != nil {
		return nil, err
	}
	var a execAnswer
	a.Result, err = m.Exec(ctx, e.Request, e.Command)
	if errors.As(err, &a.Creating) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if v := h.meta.Load().mnode.View(); v.Index > seen {
		if a.View, err = mnode.EncodeView(v); err != nil {
			return nil, err
		}
	}
	return json.Marshal(a)
}

// Refresh asks the mnode master for the newest View: what is not in it did not
// exist when the call began.
func (h *Host) Refresh(ctx context.Context) (*mnode.View, error) {
	body := binary.LittleEndian.AppendUint64(nil, uint64(h.View().Index))
	reply, err := h.Forward(ctx, id.Mnode, methodView, body)
	if err != nil {
		return nil, err
	}
	if len(reply) > 0 {
		v, err := mnode.DecodeView(reply)
		if err != nil {
			return nil, err
		}
		h.adopt(v)
	}
	return h.View(), nil
}

func (h *Host) serveView(ctx context.Context, _ id.UUID, _ id.Group, body []byte) ([]byte, error) {
	if len(body) != 8 {
		return nil, errors.New("read request for the view: want 8 bytes")
	}
	m, err := h.master()
	if err != nil {
		return nil, err
	}
	v, err := m.Newest(ctx)
	if err != nil || v.Index <= id.Index(binary.LittleEndian.Uint64(body)) {
		return nil, err
	}
	return mnode.EncodeView(v)
}

// servePush takes a View that the mnode master hands out.
func (h *Host) servePush(_ context.Context, _ id.UUID, body []byte) ([]byte, error) {
	v, err := mnode.DecodeView(body)
	if err != nil {
		return nil, err
	}
	if v.Cluster.ID != h.record.Identity().Cluster {
		return nil, fmt.Errorf("view of cluster %d", v.Cluster.ID)
	}
	h.adopt(v)
	return nil, nil
}

// CreateDnode admits the host that will report from endPoint. It need not be up.
func (h *Host) CreateDnode(ctx context.Context, endPoint string) (id.Host, error) {
	r, err := h.exec(ctx, mnode.CreateDnode{EndPoint: endPoint})
	return id.Host(r.Number), err
}

// DropDnode starts to remove a dnode.
func (h *Host) DropDnode(ctx context.Context, n id.Host) error {
	_, err := h.exec(ctx, mnode.DropDnode{Dnode: n})
	return err
}

// RestoreDnode lets the next empty directory that reports from a dnode's end
// point take its place.
func (h *Host) RestoreDnode(ctx context.Context, n id.Host) error {
	_, err := h.exec(ctx, mnode.RestoreDnode{Dnode: n})
	return err
}

// SetArbitrator puts another arbitrator into force, which must answer; an empty
// end point: none. The groups move to it in the background.
func (h *Host) SetArbitrator(ctx context.Context, endPoint string) error {
	_, err := h.exec(ctx, mnode.SetArbitrator{EndPoint: endPoint})
	return err
}

// AlterReplica says how many data replicas a database shall have. They are made
// and removed in the background.
func (h *Host) AlterReplica(ctx context.Context, name string, replica int) error {
	_, err := h.exec(ctx, mnode.AlterReplica{Name: name, Replica: replica})
	return err
}

// CreateDatabase returns once the database can be used, or with code
// mnode.CodeCreating if that takes more than 20 s: it goes on all the same.
func (h *Host) CreateDatabase(ctx context.Context, name string, o mnode.Options) error {
	_, err := h.exec(ctx, mnode.CreateDatabase{Name: name, Options: o})
	return err
}

// AlterDatabase refuses: what a shard keeps must change at the same place of
// its log on every replica, which this version can't do.
func (h *Host) AlterDatabase(context.Context, string, int64) error {
	return &mnode.Error{Code: mnode.CodeOptions, Text: "Invalid database options: ALTER DATABASE is not supported in this version"}
}

// DropDatabase frees the name; the shards are removed in the background.
func (h *Host) DropDatabase(ctx context.Context, name string) error {
	_, err := h.exec(ctx, mnode.DropDatabase{Name: name})
	return err
}

// CreateUser adds an account. The password does not leave this host.
func (h *Host) CreateUser(ctx context.Context, name, password string) error {
	hash, err := mnode.HashPassword(password)
	if err != nil {
		return err
	}
	_, err = h.exec(ctx, mnode.CreateUser{Name: name, Hash: hash})
	return err
}

// AlterUser gives an account another password.
func (h *Host) AlterUser(ctx context.Context, name, password string) error {
	hash, err := mnode.HashPassword(password)
	if err != nil {
		return err
	}
	_, err = h.exec(ctx, mnode.AlterUser{Name: name, Hash: hash})
	return err
}

// DropUser removes an account.
func (h *Host) DropUser(ctx context.Context, name string) error {
	_, err := h.exec(ctx, mnode.DropUser{Name: name})
	return err
}
