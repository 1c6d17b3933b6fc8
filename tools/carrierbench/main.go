// Command carrierbench compares ways to carry small messages between hosts: a
// gRPC stream, the frames of package peer, and bare frames over TCP as the
// floor; and what it costs to seal a frame. docs/decisions/0005-carrier.md
// quotes it.
//
//	cd tools/carrierbench && go run . [-for 2s]
package main

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

const payload = 200 // bytes: about a heartbeat with a context, or a small entry

// link is one way to carry messages: send puts one on the wire, received yields
// one for each that came back.
type link struct {
	name     string
	send     func()
	received <-chan struct{}
	stop     func()
}

func main() {
	length := flag.Duration("for", 2*time.Second, "length of each run")
	flag.Parse()
	fmt.Printf("%-8s %10s %10s %14s %14s %14s\n", "", "p50 us", "p99 us", "CPU us/trip", "msgs/s (64)", "CPU us/msg")
	for _, open := range []func() link{bare, frames, overGRPC} {
		for range 2 { // the first warms up
			l := open()
			p50, p99, cpu := pingPong(l, *length)
			rate, cpuEach := pipeline(l, *length)
			fmt.Printf("%-8s %10.1f %10.1f %14.1f %14.0f %14.2f\n", l.name, p50, p99, cpu, rate, cpuEach)
			l.stop()
		}
	}
	fmt.Println()
	for _, open := range []func() link{bare, frames, overGRPC} {
		memory(open)
	}
	fmt.Println()
	seals(*length / 4)
}

// pingPong keeps one message under way.
func pingPong(l link, length time.Duration) (p50, p99, cpu float64) {
	var trips []time.Duration
	used, end := cpuTime(), time.Now().Add(length)
	for time.Now().Before(end) {
		at := time.Now()
		l.send()
		<-l.received
		trips = append(trips, time.Since(at))
	}
	used = cpuTime() - used
	slices.Sort(trips)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	return us(trips[len(trips)/2]), us(trips[len(trips)*99/100]), us(used) / float64(len(trips))
}

// pipeline keeps 64 messages under way.
func pipeline(l link, length time.Duration) (rate, cpu float64) {
	for range 64 {
		l.send()
	}
	n, start, used := 0, time.Now(), cpuTime()
	for time.Since(start) < length {
		<-l.received
		l.send()
		n++
	}
	took := time.Since(start)
	used = cpuTime() - used
	for range 64 {
		<-l.received
	}
	return float64(n) / took.Seconds(), float64(used.Nanoseconds()) / 1e3 / float64(n)
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	return l
}

// bare is the floor: length and bytes, no identity, no check, one writer.
func bare() link {
	l := listen()
	go func() {
		c, err := l.Accept()
		must(err)
		_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	must(err)
	frame := make([]byte, 4+payload)
	binary.LittleEndian.PutUint32(frame, payload)
	got := make(chan struct{}, 128)
	go func() {
		r, buf := bufio.NewReader(c), make([]byte, len(frame))
		for {
			if _, err := io.ReadFull(r, buf); err != nil {
				return
			}
			got <- struct{}{}
		}
	}()
	return link{"bare", func() { _, err := c.Write(frame); must(err) }, got, func() { c.Close(); l.Close() }}
}

// frames is package peer: codec, queue, coalescing writer, sealed frames.
func frames() link {
	got, up := make(chan struct{}, 128), make(chan struct{}, 4)
	ctx, cancel := context.WithCancel(context.Background())
	quiet := slog.New(slog.DiscardHandler)
	a, b := id.UUID{1}, id.UUID{2}
	self := peer.Identity{Cluster: 1, Secret: peer.Secret{1}}
	var na, nb *peer.Net
	onLink := func(peer.Remote, peer.LinkState) { up <- struct{}{} }
	na = peer.NewNet(peer.Config{UUID: a, OnLink: onLink, OnFrame: func(_ peer.Remote, _ peer.Class, msgs []peer.Message) {
		for range msgs {
			got <- struct{}{}
		}
	}}, self, quiet)
	nb = peer.NewNet(peer.Config{UUID: b, OnLink: onLink, OnFrame: func(_ peer.Remote, c peer.Class, msgs []peer.Message) {
		nb.Send(a, c, msgs)
	}}, self, quiet)
	la, lb := listen(), listen()
	na.SetPeers([]peer.Peer{{UUID: b, Addrs: []string{lb.Addr().String()}}})
	nb.SetPeers([]peer.Peer{{UUID: a, Addrs: []string{la.Addr().String()}}})
	done := make(chan error, 2)
	go func() { done <- na.Run(ctx, la) }()
	go func() { done <- nb.Run(ctx, lb) }()
	<-up
	<-up
	msg := []peer.Message{{Kind: peer.KindRaft, Group: 7, From: 1, To: 2, Raft: &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(5)), Index: new(uint64(1000)), LogTerm: new(uint64(5)),
		Entries: []*raftpb.Entry{{Index: new(uint64(1001)), Term: new(uint64(5)), Data: make([]byte, payload-20)}},
	}}}
	return link{"peer", func() {
		if !na.Send(b, peer.Beats, msg) {
			log.Fatal("not sent")
		}
	}, got, func() { cancel(); <-done; <-done }}
}

// rawCodec spares gRPC the protobuf.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (rawCodec) Name() string                       { return "raw" }

// overGRPC is one bidirectional stream.
func overGRPC() link {
	l := listen()
	desc := grpc.StreamDesc{StreamName: "echo", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			var b []byte
			if err := s.RecvMsg(&b); err != nil {
				return err
			}
			if err := s.SendMsg(&b); err != nil {
				return err
			}
		}
	}}
	srv := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}))
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "bench", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{desc}}, struct{}{})
	go func() { _ = srv.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := conn.NewStream(ctx, &desc, "/bench/echo")
	must(err)
	got := make(chan struct{}, 128)
	go func() {
		for {
			var b []byte
			if s.RecvMsg(&b) != nil {
				return
			}
			got <- struct{}{}
		}
	}()
	b := make([]byte, payload)
	return link{"gRPC", func() { must(s.SendMsg(&b)) }, got, func() { cancel(); conn.Close(); srv.Stop() }}
}

// memory prints what an idle connection costs, both ends together. A link of
// package peer is three connections.
func memory(open func() link) {
	const links = 50
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all []link
	for range links {
		l := open()
		l.send()
		<-l.received
		all = append(all, l)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := links
	if all[0].name == "peer" {
		per *= 3
	}
	fmt.Printf("%-8s %6.1f KiB of memory per idle connection\n", all[0].name,
		float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/1024/float64(per))
	for _, l := range all {
		l.stop()
	}
}

// seals prints what it costs to seal and open a frame.
func seals(length time.Duration) {
	block, err := aes.NewCipher(make([]byte, 16))
	must(err)
	gcm, err := cipher.NewGCM(block)
	must(err)
	nonce := make([]byte, 12)
	mac := hmac.New(sha256.New, make([]byte, 32))
	for _, size := range []int{payload, 64 << 10} {
		data, out := make([]byte, size), make([]byte, 0, size+64)
		for _, way := range []struct {
			name string
			do   func()
		}{
			{"HMAC-SHA256, sign and check", func() {
				for range 2 {
					mac.Reset()
					mac.Write(data)
					out = mac.Sum(out[:0])
				}
			}},
			{"AES-128-GCM, seal and open", func() {
				out = gcm.Seal(out[:0], nonce, data, nil)
				_, err := gcm.Open(data[:0], nonce, out, nil)
				must(err)
			}},
			{"AES-128-GCM as a tag only", func() {
				for range 2 {
					out = gcm.Seal(out[:0], nonce, nil, data)
				}
			}},
		} {
			n, start := 0, time.Now()
			for time.Since(start) < length {
				for range 100 {
					way.do()
				}
				n += 100
			}
			each := time.Since(start) / time.Duration(n)
			fmt.Printf("%-30s %7d B %10v %8.0f MB/s\n", way.name, size, each, float64(size)/each.Seconds()/1e6)
		}
	}
}
