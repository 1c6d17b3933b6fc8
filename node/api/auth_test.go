package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// book is a list of users whose hashes are their passwords, that counts how
// often a password was compared.
type book struct {
	mu       sync.Mutex
	users    map[string]string
	compared atomic.Int64
}

func (b *book) PasswordHash(user string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	hash, ok := b.users[user]
	return hash, ok
}

func (b *book) VerifyPassword(user, password string) bool {
	b.compared.Add(1)
	hash, ok := b.PasswordHash(user)
	return ok && hash == "hash of "+password
}

func (b *book) set(user, password string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users[user] = "hash of " + password
}

func newBook() *book {
	b := &book{users: map[string]string{}}
	b.set("root", "taosdata")
	return b
}

func secret() []byte { return []byte("secret") }

func basic(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }

func TestAuthenticate(t *testing.T) {
	k := NewKeeper(newBook(), secret)
	token, err := k.Token("root")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, header string
		want         error
	}{
		{"no header", "", ErrNoAuth},
		{"another scheme", "Digest abc", ErrAuthScheme},
		{"not base64", "Basic !!!", ErrAuthBasic},
		{"no colon", basic("root"), ErrAuthBasic},
		{"no password", basic("root:"), ErrAuthBasic},
		{"no user", basic(":taosdata"), ErrAuthBasic},
		{"wrong password", basic("root:x"), ErrAuthFailed},
		{"unknown user", basic("joe:taosdata"), ErrAuthFailed},
		{"right", basic("root:taosdata"), nil},
		{"scheme in lower case", "b" + basic("root:taosdata")[1:], nil},
		{"token", "Taosd " + token, nil},
		{"token cut short", "Taosd " + token[:len(token)-2], ErrAuthFailed},
		{"token that is none", "Taosd ***", ErrAuthTaosd},
		{"token of an old script", "Taosd /KfeAzX/f9na8qdtNZmtONryp201ma04bEl8LcvLUd7a8qdtNZmtONryp201ma04", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			user, err := k.Authenticate(context.Background(), c.header)
			if !errors.Is(err, c.want) || (err == nil && user != "root") {
				t.Errorf("got user %q, error %v, want error %v", user, err, c.want)
			}
		})
	}
}

func TestPasswordIsComparedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		k := NewKeeper(b, secret)
		check := func(password string) error { return k.Check(t.Context(), "root", password) }

		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if err := check("taosdata"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := b.compared.Load(); n > verifiers {
			t.Errorf("64 clients at once cost %d comparisons, want at most %d", n, verifiers)
		}
		before := b.compared.Load()
		time.Sleep(verifiedFor - time.Second)
		check("taosdata")
		if n := b.compared.Load() - before; n != 0 {
			t.Errorf("%d comparisons within the minute, want 0", n)
		}
		time.Sleep(2 * time.Second)
		check("taosdata")
		if n := b.compared.Load() - before; n != 1 {
			t.Errorf("%d comparisons after the minute, want 1", n)
		}

		b.set("root", "new")
		if err := check("taosdata"); !errors.Is(err, ErrAuthFailed) {
			t.Errorf("old password after ALTER USER: %v, want %v", err, ErrAuthFailed)
		}
	})
}

// stuck is a list of users whose comparisons take for ever, but for root's.
type stuck struct{ *book }

func (s stuck) VerifyPassword(user, password string) bool {
	if user != "root" {
		select {}
	}
	return s.book.VerifyPassword(user, password)
}

// However many bring wrong passwords: who was let in before is let in again at
// once, and their number is bounded.
func TestStrangersKeepNobodyOut(t *testing.T) {
	b := newBook()
	k := NewKeeper(stuck{b}, secret)
	if err := k.Check(t.Context(), "root", "taosdata"); err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	for id := range k.mu.verified {
		k.mu.verified[id] = time.Time{} // its minute is over
	}
	k.mu.Unlock()
	refused := make(chan error, 1)
	for n := range 2 * maxStrangers {
		go func() {
			if err := k.Check(t.Context(), fmt.Sprint("joe", n), "x"); errors.Is(err, ErrOverloaded) {
				select {
				case refused <- err:
				default:
				}
			}
		}()
	}
	<-refused
	if err := k.Check(t.Context(), "root", "taosdata"); err != nil {
		t.Errorf("a known client beside strangers: %v", err)
	}
}

// A program that has the wrong password tries it for ever: that costs one
// comparison a minute, and it is right as soon as the password is.
func TestWrongPasswordIsComparedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		k := NewKeeper(b, secret)
		for range 100 {
			if err := k.Check(t.Context(), "root", "new"); !errors.Is(err, ErrAuthFailed) {
				t.Fatalf("got %v, want %v", err, ErrAuthFailed)
			}
		}
		if n := b.compared.Load(); n != 1 {
			t.Errorf("%d comparisons, want 1", n)
		}
		b.set("root", "new")
		if err := k.Check(t.Context(), "root", "new"); err != nil {
			t.Errorf("after ALTER USER: %v", err)
		}
	})
}

func TestTokenEndsWithItsDayAndWithItsPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		k := NewKeeper(b, secret)
		other := NewKeeper(b, secret)
		token, err := k.Token("root")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Authenticate(t.Context(), "Taosd "+token); err != nil {
			t.Errorf("another host refuses the token: %v", err)
		}
		time.Sleep(tokenLife)
		if _, err := k.Authenticate(t.Context(), "Taosd "+token); !errors.Is(err, ErrAuthFailed) {
			t.Errorf("token of yesterday: %v, want %v", err, ErrAuthFailed)
		}
		token, _ = k.Token("root")
		b.set("root", "new")
		if _, err := k.Authenticate(t.Context(), "Taosd "+token); !errors.Is(err, ErrAuthFailed) {
			t.Errorf("token of the old password: %v, want %v", err, ErrAuthFailed)
		}
	})
}
