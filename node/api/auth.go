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
	maxVerified = 4096 // credentials remembered; when full, all are forgotten
	verifiers   = 2    // slow comparisons at once: each costs a core and much memory
)

// Keeper decides who may come in. A password is compared once a minute, in
// between an HMAC of it under a key of this process stands for it. The HMAC
// covers the stored hash, so ALTER USER and DROP USER end it at once.
type Keeper struct {
	users  Users
	key    [32]byte      // of this process
	macs   sync.Pool     // of *fingerprinter, each under key
	secret func() []byte // of the cluster, so that a token is good on every host
	slow   chan struct{} // a place for each slow comparison

	mu       sync.Mutex
	verified map[[32]byte]time.Time // until when
}

// NewKeeper makes a door-keeper. The cluster's secret makes a token that one
// host issued good on all of them; it is asked for each time, as a host may
// join a cluster later.
func NewKeeper(users Users, clusterSecret func() []byte) *Keeper {
	k := &Keeper{users: users, secret: clusterSecret, slow: make(chan struct{}, verifiers), verified: map[[32]byte]time.Time{}}
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
	if k.remembers(id) {
		return nil
	}
	select {
	case k.slow <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.slow }()
	// Another request may have brought the same password while this one waited.
	if k.remembers(id) {
		return nil
	}
	if !k.users.VerifyPassword(user, password) {
		return ErrAuthFailed
	}
	k.remember(id)
	return nil
}

// fingerprinter is an HMAC with the memory for its input. It is used again, as
// every request needs one.
type fingerprinter struct {
	mac   hash.Hash
	input []byte
}

func (k *Keeper) fingerprint(user, password, hash string) (id [32]byte) {
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

func (k *Keeper) remembers(id [32]byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	until, ok := k.verified[id]
	return ok && time.Now().Before(until)
}

func (k *Keeper) remember(id [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.verified) >= maxVerified {
		clear(k.verified)
	}
	k.verified[id] = time.Now().Add(verifiedFor)
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
