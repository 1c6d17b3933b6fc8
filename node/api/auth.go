package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"strings"
	"sync"
	"time"
)

// The refusals of a request's credentials. The first four never reach the SQL
// layer.
var (
	ErrNoAuth     = errors.New("no auth info input")
	ErrAuthScheme = errors.New("invalid type of Authorization")
	ErrAuthBasic  = errors.New("invalid basic Authorization")
	ErrAuthTaosd  = errors.New("invalid taosd Authorization")
	// ErrAuthFailed is a well-formed but wrong user, password or token. It does
	// not say which.
	ErrAuthFailed = errors.New("Authentication failure") //nolint:staticcheck // the text is part of the protocol
)

// Users is what the door-keeper knows about users: the newest the host has,
// from its own memory.
type Users interface {
	// PasswordHash returns what is stored for the user; false: no such user.
	PasswordHash(user string) (hash string, ok bool)
	// VerifyPassword compares. It is slow on purpose, also for a user that does
	// not exist, so that the time tells nobody which names do.
	VerifyPassword(user, password string) bool
}

// How long things are believed, and how much of it.
const (
	verifiedFor = 60 * time.Second // DESIGN: a verified credential is remembered so long
	tokenLife   = 24 * time.Hour
	refusedFor  = 60 * time.Second // so is a wrong one: who has it tries again and again
	maxVerified = 4096             // credentials remembered; when full, all are forgotten
	maxRefused  = 4096             // likewise
	// verifiers is how many comparisons run at once, as each costs a core and much
	// memory: one for who was let in before, one for strangers.
	verifiers = 2
	// maxStrangers is how many wait for theirs, 20 ms each.
	maxStrangers = 64
)

// Keeper decides who may come in. A password is compared once a minute, in
// between an HMAC of it under a key of this process stands for it. The HMAC
// covers the stored hash, so ALTER USER and DROP USER end it at once.
//
// However many come with wrong passwords, who was let in once does not wait for
// them: strangers have a queue of their own, which is short.
type Keeper struct {
	users  Users
	key    [32]byte      // of this process
	macs   sync.Pool     // of *fingerprinter, each under key
	secret func() []byte // of the cluster, so that a token is good on every host

	known, strangers sync.Mutex // held while a password of theirs is compared

	mu struct {
		sync.Mutex
		verified  map[fingerprint]time.Time // until when; a known one is kept longer
		refused   map[fingerprint]time.Time // until when
		compared  map[fingerprint]*comparison
		strangers int // in compared
	}
}

// fingerprint stands for a user, a password and the hash that is stored.
type fingerprint [32]byte

// comparison is one under way; all who bring the same wait for it.
type comparison struct {
	known bool
	done  chan struct{} // closed at its end
	right bool          // to be read then
}

// NewKeeper makes a door-keeper. The cluster's secret makes a token that one
// host issued good on all of them; it is asked for each time, as a host may
// join a cluster later.
func NewKeeper(users Users, clusterSecret func() []byte) *Keeper {
	k := &Keeper{users: users, secret: clusterSecret}
	k.mu.verified, k.mu.refused = map[fingerprint]time.Time{}, map[fingerprint]time.Time{}
	k.mu.compared = map[fingerprint]*comparison{}
	rand.Read(k.key[:]) // never fails (crypto/rand, Go 1.24)
	k.macs.New = func() any { return &fingerprinter{mac: hmac.New(sha256.New, k.key[:])} }
	return k
}

// Authenticate says who sent a request with this Authorization header.
func (k *Keeper) Authenticate(ctx context.Context, header string) (user string, err error) {
	if header == "" {
		return "", ErrNoAuth
	}
	scheme, rest, _ := strings.Cut(header, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(scheme, "Basic"):
		plain, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return "", ErrAuthBasic
		}
		user, password, ok := strings.Cut(string(plain), ":")
		if !ok || user == "" || password == "" {
			return "", ErrAuthBasic
		}
		return user, k.Check(ctx, user, password)
	case strings.EqualFold(scheme, "Taosd"):
		return k.checkToken(ctx, rest)
	}
	return "", ErrAuthScheme
}

// Check compares a password with the stored one, or remembers that it did.
func (k *Keeper) Check(ctx context.Context, user, password string) error {
	hash, _ := k.users.PasswordHash(user)
	id := k.fingerprint(user, password, hash)
	c, mine, err := k.look(id)
	if c == nil {
		return err
	}
	if mine {
		lane := &k.strangers
		if c.known {
			lane = &k.known
		}
		lane.Lock()
		right := k.users.VerifyPassword(user, password)
		lane.Unlock()
		k.settle(id, c, right)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !c.right {
		return ErrAuthFailed
	}
	return nil
}

// look returns what is remembered, or the comparison that will tell; mine says
// that it is the caller's to make.
func (k *Keeper) look(id fingerprint) (c *comparison, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	until, known := k.mu.verified[id]
	switch c = k.mu.compared[id]; {
	case now.Before(until):
		return nil, false, nil
	case now.Before(k.mu.refused[id]):
		return nil, false, ErrAuthFailed
	case c != nil:
		return c, false, nil
	case !known && k.mu.strangers >= maxStrangers:
		return nil, false, ErrOverloaded
	case !known:
		k.mu.strangers++
	}
	c = &comparison{known: known, done: make(chan struct{})}
	k.mu.compared[id] = c
	return c, true, nil
}

// settle remembers what a comparison has shown and tells all who wait.
func (k *Keeper) settle(id fingerprint, c *comparison, right bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.mu.compared, id)
	if !c.known {
		k.mu.strangers--
	}
	list, most, until := k.mu.refused, maxRefused, time.Now().Add(refusedFor)
	if right {
		list, most, until = k.mu.verified, maxVerified, time.Now().Add(verifiedFor)
	}
	if len(list) >= most {
		clear(list)
	}
	list[id] = until
	c.right = right
	close(c.done)
}

// fingerprinter is an HMAC with the memory for its input. It is used again, as
// every request needs one.
type fingerprinter struct {
	mac   hash.Hash
	input []byte
}

func (k *Keeper) fingerprint(user, password, hash string) (id fingerprint) {
	f := k.macs.Get().(*fingerprinter)
	f.input = f.input[:0]
	for _, part := range []string{user, password, hash} {
		f.input = binary.LittleEndian.AppendUint64(f.input, uint64(len(part)))
		f.input = append(f.input, part...)
	}
	f.mac.Reset()
	f.mac.Write(f.input)
	f.input = f.mac.Sum(f.input[:0])
	copy(id[:], f.input)
	// The password is overwritten only in part by the sum: clear all of it.
	clear(f.input[:cap(f.input)])
	k.macs.Put(f)
	return id
}

// A token is: expiry (8 bytes, Unix seconds), nonce (8), user, MAC (16). The
// MAC covers the stored hash too, so a changed password ends all tokens.
const tokenOverhead = 8 + 8 + 16

// Token issues a token for a user whose password has just been checked.
func (k *Keeper) Token(user string) (string, error) {
	hash, ok := k.users.PasswordHash(user)
	if !ok {
		return "", ErrAuthFailed
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(tokenLife).Unix()))
	var nonce [8]byte
	rand.Read(nonce[:])
	b = append(append(b, nonce[:]...), user...)
	return base64.RawURLEncoding.EncodeToString(append(b, k.tokenMAC(b, hash)...)), nil
}

func (k *Keeper) tokenMAC(body []byte, hash string) []byte {
	mac := hmac.New(sha256.New, k.secret())
	mac.Write([]byte("login token"))
	mac.Write(body)
	mac.Write([]byte(hash))
	return mac.Sum(nil)[:16]
}

func (k *Keeper) checkToken(ctx context.Context, token string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil && len(b) > tokenOverhead {
		body, sum := b[:len(b)-16], b[len(b)-16:]
		user := string(body[16:])
		hash, ok := k.users.PasswordHash(user)
		if ok && subtle.ConstantTimeCompare(sum, k.tokenMAC(body, hash)) == 1 {
			if time.Now().Unix() >= int64(binary.BigEndian.Uint64(body)) {
				return "", ErrAuthFailed
			}
			return user, nil
		}
	}
	if user, password, ok := oldToken(token); ok {
		return user, k.Check(ctx, user, password)
	}
	if err != nil {
		return "", ErrAuthTaosd
	}
	return "", ErrAuthFailed
}
