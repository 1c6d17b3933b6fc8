package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
)

// outsideFor is how long to go on while all hosts say that they are in no
// cluster: one that is being let in needs a second.
const outsideFor = 2 * time.Second

// tries is what one statement has met.
type tries struct {
	config    Config
	statement string
	began     time.Time
	reached   bool  // some host took a connection
	outside   int   // how many said in a row that they are in no cluster
	last      error // what tells most
}

// time is how long the next try may take; zero: no time of its own.
//
// A host that has taken a statement may wait for a master, so a try ends early
// only if another host can be asked the same. The longer nobody has answered, the
// more likely is that the statement itself takes long.
func (t *tries) time() time.Duration {
	if len(t.config.EndPoints) == 1 {
		return 0
	}
	if first := firstWord(t.statement); first != "INSERT" && !slices.Contains(harmless, first) {
		return 0 // nobody else could be asked
	}
	return max(t.config.TryTimeout, time.Since(t.began)/3)
}

// note takes the failure of a try and says whether it is the last.
func (t *tries) note(ctx context.Context, err error) (final error, over bool) {
	var refused *Error
	said := errors.As(err, &refused)
	if said && refused.Code == CodeNoDnode {
		t.outside++
	} else {
		t.outside = 0
	}
	switch {
	case t.outside > 0:
		if t.outside >= len(t.config.EndPoints) && time.Since(t.began) >= outsideFor {
			return err, true
		}
	case said && !refused.Temporary():
		return err, true
	case mayHaveRun(err) && !Repeatable(t.statement):
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err), true
	}
	if t.last == nil || ctx.Err() == nil {
		t.last = err // what a host has said tells more than that our time is up
	}
	t.reached = t.reached || !dialFailed(err)
	if !t.reached && time.Since(t.began) > t.config.Unreachable {
		return t.giveUp(), true
	}
	return nil, false
}

// giveUp is the error when time is up.
func (t *tries) giveUp() error {
	if errors.As(t.last, new(*Error)) {
		return fmt.Errorf("no host could run it in time: %w", t.last)
	}
	return fmt.Errorf("no host answered in time: %w", t.last)
}

// mayHaveRun reports whether a host may have begun to run the statement of a
// try that ended with err.
func mayHaveRun(err error) bool {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Code == CodeUnknownOutcome
	}
	return !dialFailed(err)
}

// dialFailed reports whether a try never got a connection.
func dialFailed(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// Repeatable reports whether running a statement twice does no harm. Writing a
// row again replaces it by itself, unless its timestamp is the time at which the
// statement runs.
func Repeatable(statement string) bool {
	first := firstWord(statement)
	if first == "INSERT" {
		return !slices.ContainsFunc(clocks, func(word string) bool { return contains(statement, word) })
	}
	return slices.Contains(harmless, first)
}

// firstWord is what kind of statement this is, in capitals.
func firstWord(statement string) string {
	rest := strings.TrimSpace(statement)
	if end := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) }); end >= 0 {
		rest = rest[:end]
	}
	return strings.ToUpper(rest[:min(len(rest), 16)])
}

var (
	harmless = []string{"SELECT", "SHOW", "DESCRIBE", "DESC", "USE", "EXPLAIN"}
	clocks   = []string{"now", "today"}
)

// contains reports whether a word stands in a text, in whatever case; one in
// quotes counts, too.
func contains(text, word string) bool {
	for at := 0; at+len(word) <= len(text); at++ {
		end := at + len(word)
		if text[at]|0x20 == word[0] && strings.EqualFold(text[at:end], word) &&
			(at == 0 || !inName(text[at-1])) && (end == len(text) || !inName(text[end])) {
			return true
		}
	}
	return false
}

func inName(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
}
