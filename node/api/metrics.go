package api

import (
	"net/http"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Metrics writes the Prometheus text of a host. Whoever has something to count
// adds a collector; a scrape calls them one after the other.
type Metrics struct {
	mu         sync.Mutex
	collectors []func(*MetricText)
}

// Add registers a collector. It must not wait for anything.
func (m *Metrics) Add(collect func(*MetricText)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.collectors = append(m.collectors, collect)
}

// ServeHTTP answers GET /metrics.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	collectors := m.collectors
	m.mu.Unlock()
	var t MetricText
	for _, collect := range collectors {
		collect(&t)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(t.b) //nolint:errcheck // the scraper has gone: there is no one to tell
}

// MetricText collects metrics in the text format.
type MetricText struct {
	b    []byte
	name string
}

// Family starts a metric; its samples follow. The kind is counter, gauge or
// histogram.
func (t *MetricText) Family(name, kind, help string) {
	t.name = name
	t.b = append(t.b, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// Sample adds a value with its labels, given as name, value, name, value.
func (t *MetricText) Sample(value float64, labels ...string) { t.sample("", value, labels) }

func (t *MetricText) sample(suffix string, value float64, labels []string) {
	t.b = append(append(t.b, t.name...), suffix...)
	for i := 0; i+1 < len(labels); i += 2 {
		open := byte(',')
		if i == 0 {
			open = '{'
		}
		t.b = append(t.b, open)
		t.b = append(append(t.b, labels[i]...), '=')
		t.b = strconv.AppendQuote(t.b, labels[i+1])
	}
	if len(labels) > 0 {
		t.b = append(t.b, '}')
	}
	t.b = append(t.b, ' ')
	t.b = strconv.AppendFloat(t.b, value, 'g', -1, 64)
	t.b = append(t.b, '\n')
}

// latencyBounds are the upper bounds of the buckets of a Latency, in seconds.
var latencyBounds = []float64{0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25}

// Latency is a histogram of durations. Its zero value is ready.
type Latency struct {
	buckets [17]atomic.Uint64 // the last is for what exceeds all bounds
	nanos   atomic.Int64
}

// Observe counts one duration.
func (l *Latency) Observe(d time.Duration) {
	i := sort.SearchFloat64s(latencyBounds, d.Seconds())
	l.buckets[i].Add(1)
	l.nanos.Add(int64(d))
}

// Count is how many durations were counted.
func (l *Latency) Count() (n uint64) {
	for i := range l.buckets {
		n += l.buckets[i].Load()
	}
	return n
}

// Histogram adds the samples of l to the family that was started last.
func (t *MetricText) Histogram(l *Latency, labels ...string) {
	var total uint64
	for i := range l.buckets {
		total += l.buckets[i].Load()
		bound := "+Inf"
		if i < len(latencyBounds) {
			bound = strconv.FormatFloat(latencyBounds[i], 'g', -1, 64)
		}
		t.sample("_bucket", float64(total), append(labels[:len(labels):len(labels)], "le", bound))
	}
	t.sample("_sum", time.Duration(l.nanos.Load()).Seconds(), labels)
	t.sample("_count", float64(total), labels)
}
