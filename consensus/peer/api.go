package peer

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Secret is what the members of a cluster share to prove themselves to each
// other and to the arbitrator. It never appears in a log.
type Secret [32]byte

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// Identity says which member of which cluster this process is. The zero
// Identity is a guest: it may only make calls that are open to guests.
type Identity struct {
	Cluster id.Cluster
	Host    id.Host
	Secret  Secret
}

// Keyring knows the secrets of clusters. A host's knows one; an arbitrator's is
// its store. It must answer without I/O.
type Keyring interface {
	Secret(c id.Cluster) (Secret, bool)
}

// Config is fixed once NewNet has returned.
type Config struct {
	UUID id.UUID // own data directory
	Addr string  // own end point, host:port, as told to others
	// Keys makes this an arbitrator: it accepts every cluster, dials nobody,
	// and lets a cluster that Keys does not know introduce itself. Nil on hosts.
	Keys Keyring
	// Offer is what this directory says of itself in every handshake (R42). The
	// zero Offer is that of a first start.
	Offer Offer
	// Judge decides whether a directory continues what was seen of it (R42). An
	// error refuses the connection; the other side is told its text. It is
	// called by handshakes, several at once, and must not wait for a disk. Nil
	// takes everybody for what he says.
	Judge func(c id.Cluster, u id.UUID, o Offer) error
	// OnRefusedAsCopy tells that another directory has refused this one as an
	// old copy of itself. It is called at every attempt to connect, several at
	// once, and must not block.
	OnRefusedAsCopy func(by Remote, why string)
	// OnSequence tells how far the log of a directory has come, as its
	// TellSequence says. It is called like OnFrame.
	OnSequence func(from Remote, sequence uint64)
	// OnFrame receives the messages of one frame. It is called by the reader of
	// one connection at a time: while it blocks, that connection is held back
	// and no other.
	OnFrame func(from Remote, class Class, msgs []Message)
	// OnLink tells when the Beats connection to a directory comes and goes.
	// Calls about one directory come in order, and must not block for long.
	OnLink func(remote Remote, state LinkState)
	// Dial replaces the TCP dialler; nil means TCP. Tests set it.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// MaxConns bounds the accepted connections; default 4,096. Of those, at
	// most 64 may not yet have proved who they are.
	MaxConns int
}

// Remote is who a connection has proved to lead to.
type Remote struct {
	Cluster id.Cluster // zero: a guest
	UUID    id.UUID
	Host    id.Host // zero: an arbitrator, or not admitted yet
	Addr    string  // the end point that it tells others to use
	Start   Start   // of its process
	Secret  Secret  // with which the connection was made
	// Introduced: the arbitrator did not know the cluster, and has Secret from
	// this very connection.
	Introduced bool
}

// LinkState is what is known about the way to a directory. The numbers are
// those of consensus.LinkState.
type LinkState uint8

// The states of a link.
const (
	LinkDown    LinkState = iota // lost; nothing more is known
	LinkUp                       // connected and identified
	LinkRefused                  // lost, and a redial of its own end point was refused: the process is gone (R15, R32)
)

func (s LinkState) String() string {
	return [...]string{"down", "up", "refused"}[s]
}

// Peer is a directory to keep connections to.
type Peer struct {
	UUID       id.UUID  // never zero
	Addrs      []string // end points to try in turn: last known, configured, gossiped
	Arbitrator bool     // Beats only, and a slower keep-alive
	// Enrolled: the arbitrator has proved once that it knows the cluster's
	// secret, so it is never told the secret again. False: it is told if it
	// says that it does not know the cluster (trust on first enrolment).
	Enrolled bool
}

// Link is the state of the connections to one directory, for status screens.
type Link struct {
	Remote   Remote
	State    LinkState
	Classes  [3]bool // connected: Beats, Bulk, calls
	Err      string  // of the last attempt, while down
	Answered id.UUID // the other directory that answered at the address, if one did
	Sent     uint64  // bytes since this link was first connected
	Received uint64
}

// Handler runs one call. from is zero for a guest. An error that is or wraps a
// *CallError reaches the caller as such; any other as a CallError of code zero.
// ctx ends when the caller gives up or its connection breaks.
type Handler func(ctx context.Context, from id.UUID, req []byte) ([]byte, error)

// CallError is a handler's refusal as its caller sees it.
type CallError struct {
	Code uint16
	Text string
}

func (e *CallError) Error() string {
	if e.Code == 0 {
		return e.Text
	}
	return fmt.Sprintf("0x%04x: %s", e.Code, e.Text)
}

// The errors that a caller must tell apart.
var (
	// ErrSelf means that an address leads back to this very directory.
	ErrSelf = errors.New("this is our own address")
	// ErrUnreachable means that there is no connection: the call did not run.
	ErrUnreachable = errors.New("not connected")
	// ErrBroken means that the connection broke while the call was under way:
	// it may or may not have run, and may still run.
	ErrBroken = errors.New("connection broke: the call may or may not have run")
	// ErrBusy means that the other side runs as many calls as it allows: the
	// call did not run.
	ErrBusy = errors.New("too many calls under way")
	// ErrNoMethod means that the other side offers no such call to this caller:
	// it did not run.
	ErrNoMethod = errors.New("no such call")
	// ErrTooLarge means that a body is above MaxBody: the call did not run, or
	// its answer could not be sent.
	ErrTooLarge = errors.New("body of a call is too large")
)

// MaxBody bounds the request and the answer of a call.
const MaxBody = 32 << 20
