package consensus

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{bytesPerSecond: 1000}
		begun := time.Now()
		for range 5 {
			if err := waitFor(t.Context(), p.take(500)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("the fifth 500 bytes went after %s, want 2s", took)
		}
		time.Sleep(time.Minute) // what was not sent then is not made up for
		begun = time.Now()
		for range 3 {
			_ = waitFor(t.Context(), p.take(500)) // t's context does not end here
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the third 500 bytes went after %s, want 1s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := waitFor(ctx, p.take(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
}

// TestPaceOfADistantReader: who needs some time for the way to a host and back gets
// as much as others, and who needs far more gets no more at once than an answer holds.
func TestPaceOfADistantReader(t *testing.T) {
	const n = 64 << 10
	for _, test := range []struct {
		away time.Duration
		want float64 // bytes per second
	}{
		{0, paceBegin * pacedMost},
		{10 * time.Millisecond, paceBegin * pacedMost},
		{time.Second, answerBytes},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &paced{t: t, pace: pace{bytesPerSecond: pacedMost}}
			sent, begun := 0, time.Now()
			for time.Since(begun) < time.Minute {
				wait := time.Duration(0)
				for answer := 0; answer < answerBytes && wait <= 0; answer += n {
					sent, wait = sent+n, p.take(n)
				}
				if err := waitFor(t.Context(), wait); err != nil {
					t.Fatal(err)
				}
				p.wrote(time.Millisecond) // without a calm time the pace stays what it is
				time.Sleep(test.away)
			}
			p.want(test.away.String()+" away", float64(sent)/time.Since(begun).Seconds(), test.want)
		})
	}
}

// paced drives a pace through times in which writes take this or that.
type paced struct {
	t *testing.T
	pace
}

const pacedMost = 30_000_000

// writes makes 100 writes a second for so long, each of which takes as long.
func (p *paced) writes(length, took time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		p.wrote(took)
	}
}

// copies sends pieces for so long, beside writes that take as long as write says
// at this pace, and returns the mean pace over the second half.
func (p *paced) copies(length time.Duration, write func(rate float64) time.Duration) (bytesPerSecond float64) {
	p.t.Helper()
	const n = 256 << 10
	half, sent := length/2, 0
	begun := time.Now()
	var wrote time.Time
	for time.Since(begun) < length {
		if err := waitFor(p.t.Context(), p.take(n)); err != nil {
			p.t.Fatal(err)
		}
		if time.Since(begun) > half {
			sent += n
		}
		if took := write(p.mu.rate); took > 0 {
			for ; time.Since(wrote) > 10*time.Millisecond; wrote = wrote.Add(10 * time.Millisecond) {
				if wrote.IsZero() {
					wrote = time.Now()
				}
				p.wrote(took)
			}
		}
	}
	return float64(sent) / (length - half).Seconds()
}

func always(took time.Duration) func(float64) time.Duration {
	return func(float64) time.Duration { return took }
}

func (p *paced) want(what string, got, want float64) {
	p.t.Helper()
	if math.Abs(got-want) > want/10 {
		p.t.Errorf("%s: %.1f MB/s, want %.1f", what, got/1e6, want/1e6)
	}
}

// TestPaceGivesWay: a copy goes as fast as it may while writes take what they
// took before it, and slower while they take longer. It never stops.
func TestPaceGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{t: t, pace: pace{bytesPerSecond: pacedMost}}
		p.writes(30*time.Second, 2*time.Millisecond)
		p.want("writes as before", p.copies(time.Minute, always(2*time.Millisecond)), pacedMost)
		p.want("writes take a little longer", p.copies(time.Minute, always(2500*time.Microsecond)), pacedMost)
		p.want("writes take twice as long", p.copies(time.Minute, always(4*time.Millisecond)), paceLeast)
		p.want("for long", p.copies(10*time.Minute, always(4*time.Millisecond)), paceLeast)
		p.want("ten times as many", p.copies(time.Minute, func(float64) time.Duration {
			for range 9 {
				p.wrote(2 * time.Millisecond)
			}
			return 2 * time.Millisecond
		}), pacedMost)
		p.want("writes as before again", p.copies(time.Minute, always(2*time.Millisecond)), pacedMost)
		p.want("no writes", p.copies(time.Minute, always(0)), pacedMost)
	})
}

// TestPaceFindsWhatFits: beyond a pace the copy is what slows writes down.
func TestPaceFindsWhatFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{t: t, pace: pace{bytesPerSecond: pacedMost}}
		p.writes(30*time.Second, 2*time.Millisecond)
		const fits = 12e6
		got := p.copies(5*time.Minute, func(rate float64) time.Duration {
			if rate > fits {
				return 20 * time.Millisecond
			}
			return 2 * time.Millisecond
		})
		if got < fits*0.6 || got > fits*1.1 {
			t.Errorf("%.1f MB/s, %.1f fit", got/1e6, fits/1e6)
		}
	})
}

// TestPaceFeelsStalls: one long stall among a hundred quick writes counts as what
// it is to those who wait.
func TestPaceFeelsStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{t: t, pace: pace{bytesPerSecond: pacedMost}}
		p.writes(30*time.Second, 2*time.Millisecond)
		writes := 0
		got := p.copies(time.Minute, func(float64) time.Duration {
			if writes++; writes%40 == 0 {
				return 100 * time.Millisecond
			}
			return 2 * time.Millisecond
		})
		if got > pacedMost/3 {
			t.Errorf("%.1f MB/s beside stalls", got/1e6)
		}
	})
}

// TestPaceForgetsAStall: one long stall before a copy does not make it deaf.
func TestPaceForgetsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{t: t, pace: pace{bytesPerSecond: pacedMost}}
		p.writes(15*time.Second, 2*time.Millisecond)
		p.wrote(time.Second)
		p.writes(5*time.Second, 2*time.Millisecond)
		p.want("writes take twice as long", p.copies(time.Minute, always(4*time.Millisecond)), paceLeast)
	})
}

// TestPaceWithoutACalmTime: a host that has led no write before the copy does not
// know what they take.
func TestPaceWithoutACalmTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{t: t, pace: pace{bytesPerSecond: pacedMost}}
		p.want("first writes", p.copies(time.Minute, always(50*time.Millisecond)), paceBegin*pacedMost)
		time.Sleep(paceCalmAfter)
		p.writes(30*time.Second, 50*time.Millisecond)
		p.want("the next copy", p.copies(time.Minute, always(50*time.Millisecond)), pacedMost)
	})
}
