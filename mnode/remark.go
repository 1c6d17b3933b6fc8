package mnode

import (
	"fmt"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
)

// Remark is what the master knows of a dnode that the dnode can't say itself.
type Remark struct {
	Dnode  id.Host
	Reason string // why it is offline, with the next step
	// RemovalBlocked says why a dnode that has been away for longer than
	// offlineThreshold is still a member; empty: it is not that long.
	RemovalBlocked string
}

// knockAge is how long a knock counts: a host that is not let in repeats it
// several times a second.
const knockAge = 5 * time.Second

// Remarks returns what this master has to say of dnodes, by dnode.
func (s *Master) Remarks() []Remark {
	now, v := time.Now(), s.mnode.View()
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Remark
	for _, d := range v.Live() {
		r := Remark{Dnode: d.ID}
		for _, t := range s.mu.tasks {
			switch {
			case t.Dnode != d.ID:
			case t.What == taskRemove:
				r.RemovalBlocked = t.Waiting
				r.Reason = "REMOVAL_BLOCKED: longer away than offlineThreshold, but " + t.Waiting
			case t.What == taskRestore:
				r.Reason = t.Waiting
			}
		}
		if at, ok := s.mu.facts.Knocks[d.ID]; ok && now.Sub(at) < knockAge && !d.Restoring {
			r.Reason = fmt.Sprintf("new directory: RESTORE DNODE %d", d.ID)
		}
		if r.Reason != "" {
			list = append(list, r)
		}
	}
	return list
}

// knocked notes a host that is not let in because its end point is the dnode's
// and its directory is not.
func (s *Master) knocked(n id.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.facts.Knocks[n] = time.Now()
}

// sayEvery is how often a task that makes progress is logged.
const sayEvery = 10 * time.Second

// said is what was last logged of a task, and when.
type said struct {
	waiting string
	at      time.Time
}

// tell keeps the tasks for those who ask, and logs what has become of them: what
// each waits for, at most every sayEvery, and its end.
func (s *Master) tell(now time.Time, tasks []Task) {
	s.mu.Lock()
	s.mu.tasks = tasks
	s.mu.Unlock()
	open := map[string]bool{}
	for _, t := range tasks {
		key := fmt.Sprintf("%s %d %d", t.What, t.Group, t.Dnode)
		open[key] = true
		was, known := s.said[key]
		if !known {
			was = said{at: now.Add(-sayEvery + time.Second)} // most are over within a second
		}
		if t.Waiting != was.waiting && now.Sub(was.at) >= sayEvery {
			was.waiting, was.at = t.Waiting, now
			say := s.log.Info
			if t.What == taskRemove {
				say = s.log.Error
			}
			say("cluster change under way", "what", t.What, "group", t.Group, "host", t.Dnode, "waits", t.Waiting)
		}
		s.said[key] = was
	}
	for key, was := range s.said {
		if !open[key] {
			delete(s.said, key)
			if was.waiting != "" {
				s.log.Info("cluster change done", "what", key)
			}
		}
	}
}
