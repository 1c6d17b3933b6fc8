package peer

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The handshake proves to both sides that the other knows the cluster's secret,
// without telling it, and gives each connection keys of its own:
//
//	dialler   hello{who I am, whom I mean, an X25519 key}
//	acceptor  hello{who I am, what you are to me, an X25519 key}, proof, offer
//	dialler   proof [, the cluster's secret, if the arbitrator asked], verdict, offer
//	acceptor  verdict
//
// Secret, offers and the verdicts on them (R42) are encrypted. A guest is spared
// offers and verdicts.
//
// Keys and proofs come from the shared X25519 secret, the cluster's secret and
// everything said before. Without the cluster's secret (a guest, or a cluster
// that an arbitrator does not know yet) the keys still keep listeners out, but
// not somebody who sits in between.
var (
	magic = [4]byte{'T', 'A', 'R', 'B'}

	errNotPeer = errors.New("not a peer: the first bytes are not ours")
)

const (
	wireVersion = 1
	maxHello    = 512
	maxAddr     = 255
	secretBytes = 32
	proofBytes  = 16
	keyBytes    = 16
)

// verdict is what the acceptor makes of the dialler's hello. The numbers are
// part of the wire format.
type verdict uint8

const (
	verdictMember    verdict = 1 // prove that you know the secret
	verdictGuest     verdict = 2
	verdictIntroduce verdict = 3 // the arbitrator does not know the cluster
	// The refusals.
	verdictVersion      verdict = 16
	verdictOtherCluster verdict = 17
	verdictNoCluster    verdict = 18 // the acceptor belongs to none
	verdictOtherUUID    verdict = 19 // another directory answers here
	verdictSelf         verdict = 20
	verdictFull         verdict = 21
)

func (v verdict) String() string {
	switch v {
	case verdictMember:
		return "member"
	case verdictGuest:
		return "guest"
	case verdictIntroduce:
		return "arbitrator does not know this cluster"
	case verdictVersion:
		return "speaks another version"
	case verdictOtherCluster:
		return "belongs to another cluster"
	case verdictNoCluster:
		return "belongs to no cluster yet"
	case verdictOtherUUID:
		return "another data directory answers at this address"
	case verdictSelf:
		return "this is our own address"
	case verdictFull:
		return "has no room for more connections"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// hello is what each side says first.
type hello struct {
	verdict verdict // acceptor only
	class   Class   // dialler only
	cluster id.Cluster
	uuid    id.UUID
	meant   id.UUID // dialler only; zero: whoever answers
	host    id.Host
	key     [32]byte // X25519
	addr    string
}

// append writes h as magic, version, length and body.
func (h *hello) append(dst []byte) []byte {
	body := make([]byte, 0, 128)
	body = append(body, byte(h.verdict), byte(h.class))
	body = binary.LittleEndian.AppendUint64(body, uint64(h.cluster))
	body = append(body, h.uuid[:]...)
	body = append(body, h.meant[:]...)
	body = binary.LittleEndian.AppendUint32(body, uint32(h.host))
	body = append(body, h.key[:]...)
	body = append(body, h.addr[:min(len(h.addr), maxAddr)]...)
	dst = append(dst, magic[:]...)
	dst = binary.LittleEndian.AppendUint16(dst, wireVersion)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(body)))
	return append(dst, body...)
}

// helloFixed is the length of a body without the address.
const helloFixed = 1 + 1 + 8 + 16 + 16 + 4 + 32

// readHello reads a hello and returns its bytes too. A version that we do not
// speak is an error of its own, so that the acceptor can say so.
func readHello(r io.Reader) (h hello, raw []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return h, nil, err
	}
	if [4]byte(head[:4]) != magic {
		return h, nil, errNotPeer
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return h, nil, err
	}
	n := int(binary.LittleEndian.Uint16(head[6:]))
	if n < helloFixed || n > maxHello {
		return h, nil, fmt.Errorf("hello of %d bytes", n)
	}
	raw = append(head[:], make([]byte, n)...)
	if _, err := io.ReadFull(r, raw[8:]); err != nil {
		return h, nil, err
	}
	h = parseHello(raw[8:])
	if v := binary.LittleEndian.Uint16(head[4:]); v != wireVersion {
		return h, raw, fmt.Errorf("%w: %d, we speak %d", errVersion, v, wireVersion)
	}
	return h, raw, nil
}

var errVersion = errors.New("the other side speaks another version")

// parseHello reads a body of at least helloFixed bytes.
func parseHello(b []byte) (h hello) {
	h.verdict, h.class = verdict(b[0]), Class(b[1])
	h.cluster = id.Cluster(binary.LittleEndian.Uint64(b[2:]))
	copy(h.uuid[:], b[10:])
	copy(h.meant[:], b[26:])
	h.host = id.Host(binary.LittleEndian.Uint32(b[42:]))
	copy(h.key[:], b[46:])
	h.addr = string(b[helloFixed:])
	return h
}

// session is the outcome of a handshake.
type session struct {
	remote     Remote
	class      Class
	seal, open *sealer
}

// keys are what both sides derive from what they have said.
type keys struct {
	dialler, acceptor           []byte // of frames
	diallerProof, acceptorProof []byte
}

func deriveKeys(own *ecdh.PrivateKey, theirs [32]byte, secret Secret, said ...[]byte) (k keys, err error) {
	public, err := ecdh.X25519().NewPublicKey(theirs[:])
	if err != nil {
		return k, fmt.Errorf("read public key: %w", err)
	}
	shared, err := own.ECDH(public)
	if err != nil {
		return k, fmt.Errorf("agree on a key: %w", err)
	}
	transcript := sha256.New()
	for _, s := range said {
		transcript.Write(s)
	}
	info := "tarbitrator wire 1 " + string(transcript.Sum(nil))
	out, err := hkdf.Key(sha256.New, shared, secret[:], info, 2*keyBytes+2*proofBytes)
	if err != nil {
		return k, fmt.Errorf("derive keys: %w", err)
	}
	return keys{out[:16], out[16:32], out[32:48], out[48:]}, nil
}

func (k keys) session(dialler bool) (seal, open *sealer, err error) {
	d, err := newSealer(k.dialler)
	if err != nil {
		return nil, nil, err
	}
	a, err := newSealer(k.acceptor)
	if err != nil {
		return nil, nil, err
	}
	if dialler {
		return d, a, nil
	}
	return a, d, nil
}

// refusedError says why the other side, or this one, ended a handshake.
type refusedError struct {
	verdict verdict
	uuid    id.UUID // who answered
}

func (e *refusedError) Error() string {
	if e.verdict == verdictOtherUUID {
		return fmt.Sprintf("%v (%s)", e.verdict, e.uuid.Short())
	}
	return e.verdict.String()
}

// errSecret means that the other side does not know the cluster's secret.
var errSecret = errors.New("the other side does not know the cluster's secret")

// dialHandshake is the dialler's side. introduce allows to tell an arbitrator
// that does not know the cluster its secret.
func dialHandshake(rw io.ReadWriter, own hello, secret Secret, introduce bool, g gate) (s session, err error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return s, fmt.Errorf("draw a key: %w", err)
	}
	copy(own.key[:], private.PublicKey().Bytes())
	first := own.append(nil)
	if _, err := rw.Write(first); err != nil {
		return s, err
	}
	h, raw, err := readHello(rw)
	if err != nil {
		return s, err
	}
	switch {
	case h.verdict >= verdictVersion:
		return s, &refusedError{h.verdict, h.uuid}
	case own.meant != (id.UUID{}) && h.uuid != own.meant:
		return s, &refusedError{verdictOtherUUID, h.uuid}
	case h.verdict == verdictMember && own.cluster != 0:
	case h.verdict == verdictGuest && own.cluster == 0:
		secret = Secret{}
	case h.verdict == verdictIntroduce && own.cluster != 0 && introduce:
	default:
		return s, &refusedError{h.verdict, h.uuid}
	}
	known := secret
	if h.verdict == verdictIntroduce {
		known = Secret{}
	}
	k, err := deriveKeys(private, h.key, known, first, raw)
	if err != nil {
		return s, err
	}
	var proof [proofBytes]byte
	if _, err := io.ReadFull(rw, proof[:]); err != nil {
		return s, err
	}
	if !hmac.Equal(proof[:], k.acceptorProof) {
		return s, errSecret
	}
	if s.seal, s.open, err = k.session(true); err != nil {
		return s, err
	}
	s.class = own.class
	s.remote = Remote{
		Cluster: own.cluster, UUID: h.uuid, Host: h.host, Addr: h.addr, Secret: secret,
		Introduced: h.verdict == verdictIntroduce,
	}
	last := append([]byte(nil), k.diallerProof...)
	if h.verdict == verdictGuest {
		_, err := rw.Write(last)
		return s, err
	}
	if h.verdict == verdictIntroduce {
		nonce := s.seal.nonce()
		last = s.seal.aead.Seal(last, nonce[:], secret[:], nil)
	}
	return s, g.dial(rw, &s, last)
}

// judge decides what a dialler is to the acceptor.
type judge func(h *hello) (verdict, Secret)

// acceptHandshake is the acceptor's side.
func acceptHandshake(rw io.ReadWriter, own hello, judge judge, g gate) (s session, err error) {
	h, first, err := readHello(rw)
	var secret Secret
	switch {
	case err == nil:
		own.verdict, secret = judge(&h)
	case errors.Is(err, errVersion):
		own.verdict = verdictVersion
	default:
		return s, err
	}
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return s, fmt.Errorf("draw a key: %w", err)
	}
	copy(own.key[:], private.PublicKey().Bytes())
	answer := own.append(nil)
	if own.verdict >= verdictVersion {
		if _, err := rw.Write(answer); err != nil {
			return s, err
		}
		return s, &refusedError{own.verdict, h.uuid}
	}
	k, err := deriveKeys(private, h.key, secret, first, answer)
	if err != nil {
		return s, err
	}
	if s.seal, s.open, err = k.session(false); err != nil {
		return s, err
	}
	guest := own.verdict == verdictGuest
	answer = append(answer, k.acceptorProof...)
	if !guest {
		answer = g.appendOffer(answer, s.seal)
	}
	if _, err := rw.Write(answer); err != nil {
		return s, err
	}
	var proof [proofBytes]byte
	if _, err := io.ReadFull(rw, proof[:]); err != nil {
		return s, err
	}
	if !hmac.Equal(proof[:], k.diallerProof) {
		return s, errSecret
	}
	if own.verdict == verdictIntroduce {
		if secret, err = readSecret(rw, s.open); err != nil {
			return s, err
		}
	}
	s.class = h.class
	s.remote = Remote{
		Cluster: h.cluster, UUID: h.uuid, Host: h.host, Addr: h.addr, Secret: secret,
		Introduced: own.verdict == verdictIntroduce,
	}
	if guest {
		return s, nil
	}
	return s, g.accept(rw, &s)
}

// readSecret reads the secret with which a cluster introduces itself.
func readSecret(r io.Reader, open *sealer) (secret Secret, err error) {
	var sealed [secretBytes + tagBytes]byte
	if _, err := io.ReadFull(r, sealed[:]); err != nil {
		return secret, err
	}
	nonce := open.nonce()
	if _, err := open.aead.Open(secret[:0], nonce[:], sealed[:], nil); err != nil {
		return secret, fmt.Errorf("open the cluster's secret: %w", err)
	}
	if secret == (Secret{}) {
		return secret, errors.New("the cluster's secret is empty")
	}
	return secret, nil
}
