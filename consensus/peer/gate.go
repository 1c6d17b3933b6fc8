package peer

import (
	"errors"
	"fmt"
	"io"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// gate is the last part of a handshake: each side tells what it offers, judges
// the other's offer, and says how (R42). It comes after the proofs, so that
// nobody without the cluster's secret can make one member refuse another.
type gate struct {
	own   Offer
	judge func(id.Cluster, id.UUID, Offer) error // nil: everybody passes
}

// The bounds of what the other side may say here.
const (
	maxOffer = 10 + 1 + (MaxHistory+1)*(8+10)
	maxWhy   = 512
)

// copyError ends a handshake because one side is an old copy of its directory.
type copyError struct {
	by   Remote // who was judged, or has judged
	us   bool   // this side was refused, too or only
	why  string // what the other side says of this one; empty unless us
	them error  // what Judge says of the other side; nil: it may pass
}

func (e *copyError) Error() string {
	switch {
	case e.them == nil:
		return fmt.Sprintf("%s refuses this data directory: %s", e.by.UUID.Short(), e.why)
	case e.us:
		return fmt.Sprintf("%v; and it refuses this data directory: %s", e.them, e.why)
	}
	return e.them.Error()
}

func (e *copyError) Unwrap() error { return e.them }

// kind is the part of Error that stays the same from attempt to attempt.
func (e *copyError) kind() string {
	if e.them == nil {
		return "it refuses this data directory as an old copy"
	}
	return "its data directory is an old copy"
}

// appendOffer appends what this side offers, as a frame.
func (g gate) appendOffer(b []byte, seal *sealer) []byte {
	b, start := begin(b, frameOffer)
	return seal.end(AppendOffer(b, &g.own), start)
}

// appendVerdict appends a frame: empty if the other side may pass.
func appendVerdict(b []byte, seal *sealer, refusal error) []byte {
	b, start := begin(b, frameVerdict)
	if refusal != nil {
		text := refusal.Error()
		b = append(b, text[:min(len(text), maxWhy)]...)
	}
	return seal.end(b, start)
}

// dial is the dialler's part. said is what it was about to say.
func (g gate) dial(rw io.ReadWriter, s *session, said []byte) error {
	refusal, err := g.judgeNext(rw, s)
	if err != nil {
		return err
	}
	said = appendVerdict(said, s.seal, refusal)
	if _, err := rw.Write(g.appendOffer(said, s.seal)); err != nil {
		return err
	}
	verdict, err := readVerdict(rw, s)
	if err != nil {
		return errors.Join(refused(s, refusal, ""), err)
	}
	return refused(s, refusal, verdict)
}

// accept is the acceptor's part, after it has sent its offer.
func (g gate) accept(rw io.ReadWriter, s *session) error {
	verdict, err := readVerdict(rw, s)
	if err != nil {
		return err
	}
	refusal, err := g.judgeNext(rw, s)
	if err != nil {
		return errors.Join(refused(s, nil, verdict), err)
	}
	if _, err := rw.Write(appendVerdict(nil, s.seal, refusal)); err != nil {
		return errors.Join(refused(s, refusal, verdict), err)
	}
	return refused(s, refusal, verdict)
}

// judgeNext reads the other side's offer and judges it.
func (g gate) judgeNext(r io.Reader, s *session) (refusal, err error) {
	kind, payload, err := s.open.readFrame(r, maxOffer)
	if err != nil {
		return nil, err
	}
	if kind != frameOffer {
		return nil, fmt.Errorf("frame of type %d in place of an offer", kind)
	}
	o, err := DecodeOffer(payload)
	if err != nil {
		return nil, err
	}
	s.remote.Start = o.Start
	if g.judge == nil {
		return nil, nil
	}
	return g.judge(s.remote.Cluster, s.remote.UUID, o), nil
}

func readVerdict(r io.Reader, s *session) (string, error) {
	kind, payload, err := s.open.readFrame(r, maxWhy)
	if err != nil {
		return "", err
	}
	if kind != frameVerdict {
		return "", fmt.Errorf("frame of type %d in place of a verdict", kind)
	}
	return string(payload), nil
}

// refused puts both verdicts into one error; nil if both sides may pass.
func refused(s *session, them error, verdict string) error {
	if them == nil && verdict == "" {
		return nil
	}
	return &copyError{by: s.remote, us: verdict != "", why: verdict, them: them}
}

// refused tells the owner if a handshake has failed because the other side
// takes this directory for an old copy. Who has not proved to know the secret
// (an introduction proves nothing) is not believed.
func (n *Net) refused(err error) {
	var copied *copyError
	if errors.As(err, &copied) && copied.us && !copied.by.Introduced && n.cfg.OnRefusedAsCopy != nil {
		n.cfg.OnRefusedAsCopy(copied.by, copied.why)
	}
}
