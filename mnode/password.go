package mnode

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of one check: OWASP's second choice for argon2id, some 20 ms and
// 19 MiB. node/api remembers a verified credential, so it is paid rarely.
const (
	argonMemoryKiB = 19 << 10
	argonPasses    = 2
	argonThreads   = 1
	saltBytes      = 16
	keyBytes       = 32
	// Bounds of what is believed of a stored hash.
	maxArgonMemoryKiB = 256 << 10
	maxArgonPasses    = 16
	maxHash           = 256
)

const (
	minPassword = 4 // "taosdata" clients allow short ones; empty is never right
	maxPassword = 255
	// DefaultPassword is what root has at birth, because the source documents
	// say so. It is warned about until it is changed.
	DefaultPassword = "taosdata"
)

// HashPassword returns the salted hash of a password in PHC form.
func HashPassword(password string) (string, error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", fail(CodeInvalidPass, "Invalid password: want %d to %d bytes", minPassword, maxPassword)
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails (crypto/rand, Go 1.24)
	key := argon2.IDKey([]byte(password), salt, argonPasses, argonMemoryKiB, argonThreads, keyBytes)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemoryKiB, argonPasses, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// hash is a parsed PHC string.
type hash struct {
	memoryKiB, passes uint32
	threads           uint8
	salt, key         []byte
}

func parseHash(s string) (hash, error) {
	var h hash
	if len(s) > maxHash {
		return h, fmt.Errorf("password hash: %d bytes, at most %d", len(s), maxHash)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, fmt.Errorf("password hash: want argon2id version %d", argon2.Version)
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memoryKiB, &h.passes, &h.threads); err != nil {
		return h, fmt.Errorf("password hash: %w", err)
	}
	if h.memoryKiB < 8 || h.memoryKiB > maxArgonMemoryKiB || h.passes < 1 || h.passes > maxArgonPasses || h.threads < 1 {
		return h, fmt.Errorf("password hash: cost m=%d,t=%d,p=%d is out of range", h.memoryKiB, h.passes, h.threads)
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return h, fmt.Errorf("password hash: salt: %w", err)
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return h, fmt.Errorf("password hash: key: %w", err)
	}
	if len(h.salt) < 8 || len(h.key) < 16 {
		return h, fmt.Errorf("password hash: salt of %d and key of %d bytes are too short", len(h.salt), len(h.key))
	}
	return h, nil
}

func checkHash(s string) error {
	_, err := parseHash(s)
	return err
}

// Verify checks a password. It takes some 20 ms of CPU also when the user does
// not exist, so that the time tells nobody which names do.
func (v *View) Verify(user, password string) (User, error) {
	denied := fail(CodeAuthFailure, "Authentication failure")
	u, known := v.User(user)
	h, err := parseHash(u.Hash)
	if err != nil {
		h = hash{memoryKiB: argonMemoryKiB, passes: argonPasses, threads: argonThreads, salt: make([]byte, saltBytes), key: make([]byte, keyBytes)}
	}
	if len(password) > maxPassword {
		return User{}, denied
	}
	key := argon2.IDKey([]byte(password), h.salt, h.passes, h.memoryKiB, h.threads, uint32(len(h.key)))
	if !known || err != nil || subtle.ConstantTimeCompare(key, h.key) != 1 {
		return User{}, denied
	}
	return u, nil
}
