package arbitrator

import (
	"context"
	"sync"

	"github.com/tarbitrator/tarbitrator/consensus/peer"
	"github.com/tarbitrator/tarbitrator/internal/id"
)

// The bounds of what waits for the machine.
const (
	maxFrames   = 64   // of one cluster: a connection that brings more is held back (R11b)
	maxQueued   = 8192 // messages in them; a single frame may hold more
	maxMessages = 1024 // of one cluster in one Step
)

// frame is what one frame brought.
type frame struct {
	remote   peer.Remote
	messages []peer.Message
}

// intake holds the frames of all clusters until the machine's owner takes them,
// some of every cluster each time: a cluster that floods waits for itself, and
// nobody waits for it.
type intake struct {
	ready chan struct{} // capacity 1: there may be something to take

	mu struct {
		sync.Mutex
		queues map[id.Cluster]*queue
		order  []*queue // those that hold frames, the one served longest ago first
	}
}

// queue holds the frames of one cluster.
type queue struct {
	cluster id.Cluster
	frames  []frame
	queued  int           // messages in frames
	room    chan struct{} // closed at the next take; nil: nobody waits
}

func newIntake() *intake {
	in := &intake{ready: make(chan struct{}, 1)}
	in.mu.queues = make(map[id.Cluster]*queue)
	return in
}

// put adds a frame. While its cluster has too many it waits.
func (in *intake) put(ctx context.Context, f frame) {
	for {
		room := in.offer(f)
		if room == nil {
			return
		}
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

// offer adds f, or returns what tells when to try again.
func (in *intake) offer(f frame) (room <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	q := in.mu.queues[f.remote.Cluster]
	if q == nil {
		q = &queue{cluster: f.remote.Cluster}
		in.mu.queues[q.cluster] = q
		in.mu.order = append(in.mu.order, q)
	}
	if len(q.frames) >= maxFrames || q.queued > 0 && q.queued+len(f.messages) > maxQueued {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return q.room
	}
	q.frames = append(q.frames, f)
	q.queued += len(f.messages)
	in.signal()
	return nil
}

func (in *intake) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// take returns up to maxMessages messages of every cluster, in the order in
// which the cluster sent them.
func (in *intake) take() []frame {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []frame
	var rest []*queue
	for _, q := range in.mu.order {
		out = q.take(out)
		if q.room != nil {
			close(q.room)
			q.room = nil
		}
		if len(q.frames) > 0 {
			rest = append(rest, q)
		} else {
			delete(in.mu.queues, q.cluster)
		}
	}
	in.mu.order = rest
	if len(rest) > 0 {
		in.signal()
	}
	return out
}

// take moves up to maxMessages messages of q to out.
func (q *queue) take(out []frame) []frame {
	left := maxMessages
	for len(q.frames) > 0 && left > 0 {
		f := &q.frames[0]
		n := min(left, len(f.messages))
		out = append(out, frame{f.remote, f.messages[:n]})
		left -= n
		q.queued -= n
		if f.messages = f.messages[n:]; len(f.messages) == 0 {
			q.frames = q.frames[1:]
		}
	}
	return out
}
