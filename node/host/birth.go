package host

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/mnode"
)

// The calls that a guest may make.
const (
	callLookup = "cluster.lookup" // lookupRequest: do you know a cluster with this end point?
	callJoin   = "cluster.join"   // joinRequest: let me in
)

const (
	knockEvery  = 300 * time.Millisecond // so that a host is in within 1 s of CREATE DNODE
	askEvery    = time.Second            // the arbitrator, at birth
	guestAnswer = 2 * time.Second        // a guest waits so long for one answer
)

type lookupRequest struct {
	EndPoint string `json:"end_point"`
}

type lookupAnswer struct {
	Known   bool       `json:"known"`
	Cluster id.Cluster `json:"cluster,string"`
	Dnode   id.Host    `json:"dnode"`
	Witness string     `json:"witness,omitempty"` // the arbitrator's directory
	Text    string     `json:"text,omitempty"`    // what to tell the operator
	Others  []string   `json:"others,omitempty"`  // end points of the cluster's other hosts; of an arbitrator
}

type joinRequest struct {
	EndPoint string
	UUID     id.UUID
	Token    mnode.Secret `json:",omitzero"` // Identity.Token
}

type joinAnswer struct {
	Cluster id.Cluster
	Secret  mnode.Secret
	Dnode   id.Host
	View    json.RawMessage
}

// enter makes this host a member of a cluster, if it is not one yet: the first
// host founds it, every other joins it. So does a first host of which a cluster
// knows already: its directory is gone, and it waits to be restored.
func (h *Host) enter(ctx context.Context) error {
	self := h.record.Identity()
	if self.Cluster == 0 {
		helpers, err := []string{h.cfg.FirstEP, h.cfg.SecondEP}, error(nil)
		if h.cfg.EndPoint == h.cfg.FirstEP {
			helpers, err = h.born(ctx)
		}
		if err == nil && len(helpers) > 0 {
			err = h.join(ctx, helpers)
		}
		if err != nil {
			return err
		}
		self = h.record.Identity()
	}
	h.waiting.Store(nil)
	h.net.SetIdentity(peer.Identity{Cluster: self.Cluster, Host: self.Dnode, Secret: peer.Secret(self.Secret)})
	h.log.Info("member of a cluster", "cluster", self.Cluster, "dnode", self.Dnode, "uuid", self.UUID, "start", h.record.Offer().Boot)
	return nil
}

// waiting is why a host is in no cluster yet.
type waiting struct {
	text     string
	operator bool // only an operator can change that
}

// Removed says why this host is in its cluster no more, with what to do, and has
// the code of a dnode that does not exist. Nil: nobody has said so. It is cheap
// enough to ask for each statement.
func (h *Host) Removed() error {
	if why := h.removed.Load(); why != nil {
		return &CodedError{Code: mnode.CodeNoDnode, Text: *why}
	}
	return nil
}

// Outside says why this host is in no cluster yet, with what to do. It has the
// code of a dnode that does not exist if somebody has to type something. Nil: it
// is in one.
func (h *Host) Outside() error {
	if h.Dnode() != 0 {
		return nil
	}
	switch w := h.waiting.Load(); {
	case w == nil && h.cfg.EndPoint == h.cfg.FirstEP:
		return fmt.Errorf("this host (%s) is in no cluster yet: it has just begun to found one", h.cfg.EndPoint)
	case w == nil:
		return fmt.Errorf("this host (%s) is in no cluster yet: it has just begun to ask %s; if that does not let it in, type CREATE DNODE '%s' there",
			h.cfg.EndPoint, h.cfg.FirstEP, h.cfg.EndPoint)
	case w.operator:
		return &CodedError{Code: mnode.CodeNoDnode, Text: w.text}
	default:
		return errors.New(w.text)
	}
}

// born makes sure that no cluster with this end point exists, and then notes
// that this host is the first of a new one. If there is one, it returns whom to
// ask to be let in.
func (h *Host) born(ctx context.Context) (helpers []string, err error) {
	if h.cfg.SecondEP != "" && h.cfg.SecondEP != h.cfg.EndPoint {
		a, err := h.lookup(ctx, h.cfg.SecondEP)
		switch {
		case err == nil && a.Known:
			h.sayGone(a, h.cfg.SecondEP)
			return []string{h.cfg.SecondEP}, nil
		case err == nil && a.Cluster != 0: // this dnode was dropped
			return []string{h.cfg.SecondEP}, nil
		}
	}
	if h.cfg.Arbitrator != "" {
		helpers, err := h.askArbitratorFirst(ctx)
		if err != nil || len(helpers) > 0 {
			return helpers, err
		}
	}
	var secret mnode.Secret
	rand.Read(secret[:]) // never fails (crypto/rand, Go 1.24)
	cluster := id.Cluster(randomUint64()>>1 | 1)
	h.log.Info("a new cluster is born", "cluster", cluster, "end_point", h.cfg.EndPoint)
	return nil, h.record.change(func(c *contents) {
		c.Identity.Cluster, c.Identity.Dnode, c.Identity.Secret, c.Identity.Founding = cluster, 1, secret, true
	})
}

// sayGone tells the operator of a first host that was a member before what to
// type. --new-cluster does not help against another host that still is one.
func (h *Host) sayGone(a lookupAnswer, helper string) {
	text := a.Text
	if text == "" {
		text = fmt.Sprintf("this end point is dnode %d of cluster %d, its directory is gone: RESTORE DNODE %d on %s",
			a.Dnode, a.Cluster, a.Dnode, helper)
	}
	h.waiting.Store(&waiting{text, true})
	h.log.Error("no second cluster is founded: this host waits to be restored", "text", text)
}

// askArbitratorFirst waits for the arbitrator's word. It may be the only one
// left who remembers a cluster with this end point; then it names the others.
func (h *Host) askArbitratorFirst(ctx context.Context) (helpers []string, err error) {
	said := false
	for {
		a, err := h.lookupArbitrator(ctx, h.cfg.Arbitrator)
		switch {
		case err == nil && !a.Known:
			return nil, nil
		case h.cfg.NewCluster:
			h.log.Warn("new cluster in spite of the arbitrator", "arbitrator", h.cfg.Arbitrator, "known", a.Known, "err", err)
			return nil, nil
		case err == nil:
			helpers := a.Others
			if h.cfg.SecondEP != "" && h.cfg.SecondEP != h.cfg.EndPoint && !slices.Contains(helpers, h.cfg.SecondEP) {
				helpers = append(helpers, h.cfg.SecondEP)
			}
			if len(helpers) == 0 {
				return nil, fmt.Errorf("this end point is dnode %d of cluster %d, its directory is gone, and that was its only host (start with --new-cluster to give that cluster up)",
					a.Dnode, a.Cluster)
			}
			h.sayGone(a, helpers[0])
			return helpers, nil
		case !said:
			said = true
			text := fmt.Sprintf("this host waits for the arbitrator at %s, which may know a cluster with this end point (%v): start tarbitrator there; tnode start --new-cluster goes on without it",
				h.cfg.Arbitrator, err)
			h.waiting.Store(&waiting{text, false}) // it may be starting, too
			h.log.Warn("waiting for the arbitrator: it may know a cluster with this end point; --new-cluster starts one without it",
				"arbitrator", h.cfg.Arbitrator, "err", err)
		}
		if err := pause(ctx, askEvery); err != nil {
			return nil, err
		}
	}
}

func (h *Host) lookup(ctx context.Context, addr string) (lookupAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, guestAnswer)
	defer cancel()
	var a lookupAnswer
	err := h.guestCall(ctx, addr, callLookup, lookupRequest{EndPoint: h.cfg.EndPoint}, &a)
	return a, err
}

// lookupArbitrator asks somebody who has to be an arbitrator. A data host at its
// address answers too, and that it knows no cluster says nothing.
func (h *Host) lookupArbitrator(ctx context.Context, addr string) (lookupAnswer, error) {
	a, err := h.lookup(ctx, addr)
	if err == nil && a.Witness == "" {
		err = fmt.Errorf("%s is a data host, not a tarbitrator", addr)
	}
	return a, err
}

func (h *Host) guestCall(ctx context.Context, addr, method string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	reply, err := h.net.CallAddr(ctx, addr, method, body)
	if err != nil {
		return err // it names method and addr
	}
	if err := json.Unmarshal(reply, answer); err != nil {
		return fmt.Errorf("call %s at %s: %w", method, addr, err)
	}
	return nil
}

// found writes the cluster's first command once this host leads its mnode.
func (h *Host) found(ctx context.Context) error {
	self := h.record.Identity()
	birth := mnode.Found{
		Cluster: self.Cluster, Name: h.cfg.ClusterName, Secret: self.Secret,
		EndPoint: h.cfg.EndPoint, UUID: self.UUID, Arbitrator: h.cfg.Arbitrator,
	}
	if h.cfg.Arbitrator != "" {
		if a, err := h.lookupArbitrator(ctx, h.cfg.Arbitrator); err == nil {
			birth.Witness, _ = id.ParseUUID(a.Witness) // zero: its first answer will tell
		}
	}
	for said := ""; ; {
		changed := h.groups.Changed()
		err := mnode.Birth(ctx, h.groups, birth)
		if err == nil {
			return h.record.change(func(c *contents) { c.Identity.Founding = false })
		}
		var elsewhere *consensus.NotLeaderError
		if text := err.Error(); !errors.As(err, &elsewhere) && text != said {
			said = text
			h.log.Warn("the new cluster's first entry waits", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(askEvery):
		}
	}
}

// join knocks at the hosts of a cluster until one of them lets this host in. It
// says once what an operator has to type.
func (h *Host) join(ctx context.Context, helpers []string) error {
	self := h.record.Identity()
	said := map[string]string{}
	for {
		for _, addr := range helpers {
			if addr == "" || addr == h.cfg.EndPoint {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, guestAnswer)
			var a joinAnswer
			err := h.guestCall(ctx, addr, callJoin, joinRequest{EndPoint: h.cfg.EndPoint, UUID: self.UUID, Token: self.Token}, &a)
			cancel()
			switch {
			case err == nil:
				return h.joined(a)
			case errors.Is(err, peer.ErrSelf) && addr == h.cfg.FirstEP:
				return fmt.Errorf("firstEp %s is this host, which calls itself %s: make firstEp agree with fqdn and serverPort", addr, h.cfg.EndPoint)
			case errors.Is(err, peer.ErrSelf):
				continue // secondEp is another name of this host: nobody to ask
			}
			h.sayWaiting(said, addr, err)
		}
		if err := pause(ctx, knockEvery); err != nil {
			return err
		}
	}
}

// sayWaiting logs why this host is not in yet: once for each reason.
func (h *Host) sayWaiting(said map[string]string, addr string, err error) {
	text := err.Error()
	if said[addr] == text {
		return
	}
	said[addr] = text
	var refused *peer.CallError
	switch {
	case errors.As(err, &refused) && refused.Code == mnode.CodeNoDnode:
		text := fmt.Sprintf("this host (%s) is in no cluster yet: type CREATE DNODE '%s' on %s", h.cfg.EndPoint, h.cfg.EndPoint, addr)
		h.waiting.Store(&waiting{text, true})
		h.log.Warn("this host is not in the cluster yet", "type", fmt.Sprintf("CREATE DNODE '%s'", h.cfg.EndPoint), "on", addr)
	case errors.As(err, &refused):
		h.waiting.Store(&waiting{refused.Text, refused.Code != 0})
		h.log.Warn("this host is not let in", "by", addr, "reason", refused.Text)
	default:
		if was := h.waiting.Load(); was == nil || !was.operator {
			text := fmt.Sprintf("this host (%s) is in no cluster yet: %s does not answer (%v); start that host, and type CREATE DNODE '%s' there", h.cfg.EndPoint, addr, err, h.cfg.EndPoint)
			h.waiting.Store(&waiting{text, false})
		}
		h.log.Info("waiting for a host of the cluster", "end_point", addr, "err", err)
	}
}

func (h *Host) joined(a joinAnswer) error {
	v, err := mnode.DecodeView(a.View)
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if a.Cluster == 0 || a.Dnode == 0 {
		return errors.New("join the cluster: the answer names no cluster")
	}
	err = h.record.change(func(c *contents) {
		c.Identity.Cluster, c.Identity.Dnode, c.Identity.Secret = a.Cluster, a.Dnode, a.Secret
	})
	if err != nil {
		return err
	}
	h.adopt(v)
	h.applyPeers(v)
	return nil
}

// answerLookup tells a guest whether its end point belongs to a member.
func (h *Host) answerLookup(_ context.Context, _ id.UUID, body []byte) ([]byte, error) {
	var q lookupRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("read lookup: %w", err)
	}
	v := h.View()
	a := lookupAnswer{Cluster: v.Cluster.ID}
	if d, ok := v.DnodeAt(q.EndPoint); ok && !d.UUID.IsZero() {
		a = lookupAnswer{Known: true, Cluster: v.Cluster.ID, Dnode: d.ID, Text: v.GoneText(d)}
	}
	return json.Marshal(a)
}

// answerJoin takes a guest's knock to the mnode master.
func (h *Host) answerJoin(ctx context.Context, _ id.UUID, body []byte) ([]byte, error) {
	if h.View().Cluster.ID == 0 {
		return nil, errors.New("this host is in no cluster yet")
	}
	ctx, cancel := context.WithTimeout(ctx, guestAnswer)
	defer cancel()
	reply, err := h.Forward(ctx, id.Mnode, callJoin, body)
	var refusal interface {
		error
		SQLCode() uint16
	}
	if errors.As(err, &refusal) {
		return nil, &peer.CallError{Code: refusal.SQLCode(), Text: refusal.Error()}
	}
	return reply, err
}

// serveJoin lets a host in, on the mnode master.
func (h *Host) serveJoin(ctx context.Context, _ id.UUID, _ id.Group, body []byte) ([]byte, error) {
	var q joinRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("read join: %w", err)
	}
	m, err := h.master()
	if err != nil {
		return nil, err
	}
	d, v, err := m.Join(ctx, q.EndPoint, q.UUID, q.Token)
	if err != nil {
		return nil, err
	}
	h.log.Info("dnode let in", "host", d.ID, "end_point", d.EndPoint)
	view, err := mnode.EncodeView(v)
	if err != nil {
		return nil, err
	}
	return json.Marshal(joinAnswer{Cluster: v.Cluster.ID, Secret: v.Cluster.Secret, Dnode: d.ID, View: view})
}

// pause waits, or returns the reason why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
