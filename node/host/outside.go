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

// outside is what this host's mnode master acts through.
type outside struct{ *Host }

var _ mnode.Outside = outside{}

func (h *Host) masterConfig() mnode.MasterConfig {
	return mnode.MasterConfig{
		Self: h.Self(), NumOfMnodes: h.cfg.NumOfMnodes, Interval: h.cfg.Interval, Settings: h.cfg.Settings,
		OfflineThreshold: h.cfg.OfflineThreshold,
	}
}

func (o outside) Propose(ctx context.Context, g id.Group, data []byte) (any, error) {
	return o.groups.Propose(ctx, g, data)
}

func (o outside) Read(ctx context.Context, g id.Group) error { return o.groups.Read(ctx, g) }

func (o outside) Enroll(ctx context.Context, g id.Group, r id.Replica, witness id.UUID) error {
	return o.groups.Enroll(ctx, g, r, witness)
}

func (o outside) Retire(ctx context.Context, g id.Group, r id.Replica, witness id.UUID) error {
	return o.groups.Retire(ctx, g, r, witness)
}

// ChangeMembers goes straight to the host that the master saw leading; if that
// has changed, the master's next look names another.
func (o outside) ChangeMembers(ctx context.Context, leader id.UUID, g id.Group, c consensus.Change) error {
	if leader == o.Self() {
		return o.groups.ChangeMembers(ctx, g, c)
	}
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("change members of group %d: %w", g, err)
	}
	_, err = o.try(ctx, leader, g, methodChange, body)
	return err
}

func (h *Host) serveChange(ctx context.Context, _ id.UUID, g id.Group, body []byte) ([]byte, error) {
	var c consensus.Change
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("read change of members: %w", err)
	}
	return nil, h.groups.ChangeMembers(ctx, g, c)
}

// Transfer goes the same way.
func (o outside) Transfer(ctx context.Context, leader id.UUID, g id.Group, to id.Replica) error {
	if leader == o.Self() {
		return o.groups.Transfer(ctx, g, to)
	}
	_, err := o.try(ctx, leader, g, methodTransfer, binary.LittleEndian.AppendUint64(nil, uint64(to)))
	return err
}

func (h *Host) serveTransfer(ctx context.Context, _ id.UUID, g id.Group, body []byte) ([]byte, error) {
	if len(body) != 8 {
		return nil, errors.New("read transfer: want 8 bytes")
	}
	return nil, h.groups.Transfer(ctx, g, id.Replica(binary.LittleEndian.Uint64(body)))
}

func (o outside) Push(ctx context.Context, to id.UUID, v *mnode.View) error {
	b, err := mnode.EncodeView(v)
	if err != nil {
		return err
	}
	_, err = o.net.Call(ctx, to, callPush, b)
	return err
}

func (o outside) AskArbitrator(ctx context.Context, endPoint string) (id.UUID, error) {
	a, err := o.lookupArbitrator(ctx, endPoint)
	if err != nil {
		return id.UUID{}, err
	}
	return id.ParseUUID(a.Witness)
}

func (o outside) Linked(u id.UUID) bool { return o.linked()[u] }
