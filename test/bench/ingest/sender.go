package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// sender is one connection that inserts into a table of its own, one statement
// after another.
type sender struct {
	conn  net.Conn
	in    *bufio.Reader
	head  []byte // of every request, up to the length of its body
	into  []byte // the statement up to its rows
	rows  int    // of one statement
	at    int64  // next timestamp
	body  []byte
	out   []byte
	times []time.Duration
}

func dial(ctx context.Context, host string, table, rows int, at int64) (*sender, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	user := base64.StdEncoding.EncodeToString([]byte("root:taosdata"))
	return &sender{
		conn: conn, in: bufio.NewReader(conn), rows: rows, at: at,
		head: fmt.Appendf(nil, "POST /rest/sql HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nContent-Length: ", host, user),
		into: fmt.Appendf(nil, "INSERT INTO d.t%d VALUES ", table),
	}, nil
}

// sendAll has every sender send for so long, and returns how long each
// statement took.
func sendAll(senders []*sender, length time.Duration) ([]time.Duration, error) {
	end := time.Now().Add(length)
	var all errgroup.Group
	for _, s := range senders {
		all.Go(func() error { return s.send(end) })
	}
	err := all.Wait()
	var times []time.Duration
	for _, s := range senders {
		times = append(times, s.times...)
	}
	if err == nil && len(times) == 0 {
		err = errors.New("no statement was answered")
	}
	return times, err
}

// send inserts until end.
func (s *sender) send(end time.Time) error {
	s.times = s.times[:0]
	for now := time.Now(); now.Before(end); {
		if _, err := s.conn.Write(s.request()); err != nil {
			return err
		}
		if err := s.answer(); err != nil {
			return err
		}
		was := now
		now = time.Now()
		s.times = append(s.times, now.Sub(was))
	}
	return nil
}

// epoch is the first timestamp; one row a second follows, with values of two
// decimals as sensors give them.
const epoch = 1_700_000_000_000

func (s *sender) request() []byte {
	b := append(s.body[:0], s.into...)
	for range s.rows {
		b = append(b, '(')
		b = strconv.AppendInt(b, epoch+s.at*1000, 10)
		b = append(b, ',')
		b = strconv.AppendFloat(b, float64(2000+s.at*7%500)/100, 'f', 2, 64)
		b = append(b, ',')
		b = strconv.AppendInt(b, s.at%1000, 10)
		b = append(b, ')')
		s.at++
	}
	s.body = b
	s.out = strconv.AppendInt(append(s.out[:0], s.head...), int64(len(b)), 10)
	s.out = append(append(s.out, "\r\n\r\n"...), b...)
	return s.out
}

var lengthHeader = []byte("Content-Length: ")

// answer reads one response. Anything but success ends the measurement.
func (s *sender) answer() error {
	length := -1
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if len(line) <= 2 {
			break
		}
		if rest, ok := bytes.CutPrefix(line, lengthHeader); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
		}
	}
	body, err := s.in.Peek(max(length, 0))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if !bytes.HasPrefix(body, []byte(`{"code":0,`)) {
		return fmt.Errorf("statement failed: %s", body)
	}
	_, err = s.in.Discard(length)
	return err
}

// The floor: a small record written into a file that is there already, and
// synced, as the log does it.
const (
	floorRecord = 128
	floorBytes  = 16 << 20
	floorFor    = time.Second
)

// syncTime is the median time of such a write and sync.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, floorBytes)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	record := bytes.Repeat([]byte{1}, floorRecord)
	var times []time.Duration
	for at, end := int64(0), time.Now().Add(floorFor); time.Now().Before(end); at = (at + floorRecord) % floorBytes {
		start := time.Now()
		if _, err := f.WriteAt(record, at); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
