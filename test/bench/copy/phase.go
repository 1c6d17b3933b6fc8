package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/tarbitrator/tarbitrator/test/rig"
)

// phase is what one measurement gives.
type phase struct {
	took          time.Duration
	p50, p99, max time.Duration
	written       uint64 // bytes that the disk was given to write
	used          []used // by each process
}

// used is what one process needed.
type used struct {
	cpu           float64 // of a core
	resident, own uint64  // bytes of memory, at most
}

// watch measures while f runs.
func (l *load) watch(r *rig.Rig, names []string, f func() error) (phase, error) {
	before, err := count(r, names)
	if err != nil {
		return phase{}, err
	}
	memory := startMemory(r, names)
	from := time.Now()
	err = f()
	to := time.Now()
	resident, own := memory.stop()
	if err != nil {
		return phase{}, err
	}
	after, err := count(r, names)
	if err != nil {
		return phase{}, err
	}
	time.Sleep(time.Second) // the last ones are answered
	times := l.between(from, to)
	if len(times) < 100 {
		return phase{}, errors.New("fewer than 100 statements, no p99")
	}
	p := phase{
		took: to.Sub(from), written: after.written - before.written,
		p50: times[len(times)/2], p99: times[len(times)*99/100], max: times[len(times)-1],
	}
	for i := range names {
		p.used = append(p.used, used{
			cpu: (after.cpu[i] - before.cpu[i]).Seconds() / p.took.Seconds(), resident: resident[i], own: own[i],
		})
	}
	return p, nil
}

// counts is what was used up to a moment.
type counts struct {
	cpu     []time.Duration // by each process
	written uint64
}

func count(r *rig.Rig, names []string) (c counts, err error) {
	for _, name := range names {
		cpu, err := r.CPUTime(name)
		if err != nil {
			return c, err
		}
		c.cpu = append(c.cpu, cpu)
	}
	c.written, err = rig.DiskWritten(filepath.Dir(r.Log(rig.A)))
	return c, err
}

// memory looks now and then how much memory processes hold.
type memory struct {
	end, done     chan struct{} // closed once
	resident, own []uint64      // at most; owned by the goroutine until done
}

func startMemory(r *rig.Rig, names []string) *memory {
	m := &memory{end: make(chan struct{}), done: make(chan struct{}), resident: make([]uint64, len(names)), own: make([]uint64, len(names))}
	pids := make([]int, len(names))
	for i, name := range names {
		pids[i] = r.Pid(name)
	}
	go func() {
		defer close(m.done)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			for i, pid := range pids {
				if resident, own, err := rig.Memory(pid); err == nil { // it has not ended
					m.resident[i], m.own[i] = max(m.resident[i], resident), max(m.own[i], own)
				}
			}
			select {
			case <-m.end:
				return
			case <-ticker.C:
			}
		}
	}()
	return m
}

func (m *memory) stop() (resident, own []uint64) {
	close(m.end)
	<-m.done
	return m.resident, m.own
}

func (p phase) print(name string) {
	var cpu, memory []string
	for _, u := range p.used {
		cpu = append(cpu, fmt.Sprintf("%.2f", u.cpu))
		memory = append(memory, fmt.Sprintf("%d (%d)", u.resident>>20, u.own>>20))
	}
	fmt.Printf("%-9s %6.1f %9s %9s %9s %9d  %-22s %s\n", name, p.took.Seconds(), ms(p.p50), ms(p.p99), ms(p.max),
		p.written/1e6, strings.Join(cpu, " "), strings.Join(memory, " "))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
