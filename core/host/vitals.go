package host

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/conclavehq/conclave/core/host/status"
)

const (
	// vitalEvery is the time from one sample to the next, and vitalWindow how long
	// they are kept.
	vitalEvery  = 15 * time.Second
	vitalWindow = 10 * time.Minute

	fsyncMetric  = "etcd_disk_wal_fsync_duration_seconds"
	leaderMetric = "etcd_server_leader_changes_seen_total"
)

// A sample is what an embedded member's own metrics said at one moment.
type sample struct {
	at            time.Time
	fsyncs        uint64
	fsyncSeconds  float64
	leaderChanges float64
}

// vitals keeps samples of the last minutes, to tell a slow disk and leaders that
// change all the time from one bad moment.
type vitals struct {
	gatherer prometheus.Gatherer

	mu      sync.Mutex
	samples []sample // the oldest first
}

// take adds a sample, and drops those that are too old.
func (v *vitals) take(now time.Time) {
	families, err := v.gatherer.Gather()
	if err != nil && len(families) == 0 {
		return // the next one may succeed
	}
	s := sample{at: now}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s.add(f.GetName(), m)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.samples = append(v.samples, s)
	for len(v.samples) > 1 && now.Sub(v.samples[0].at) > vitalWindow {
		v.samples = v.samples[1:]
	}
}

func (s *sample) add(name string, m *dto.Metric) {
	switch name {
	case fsyncMetric:
		s.fsyncs += m.GetHistogram().GetSampleCount()
		s.fsyncSeconds += m.GetHistogram().GetSampleSum()
	case leaderMetric:
		s.leaderChanges += m.GetCounter().GetValue()
	}
}

// tell says what has happened between the first and the last sample.
func (v *vitals) tell() status.Vitals {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.samples) < 2 {
		return status.Vitals{}
	}
	first, last := v.samples[0], v.samples[len(v.samples)-1]
	out := status.Vitals{Window: last.at.Sub(first.at), LeaderChanges: int(last.leaderChanges - first.leaderChanges)}
	if out.Fsyncs = int(last.fsyncs - first.fsyncs); out.Fsyncs > 0 {
		out.Fsync = time.Duration((last.fsyncSeconds - first.fsyncSeconds) / float64(out.Fsyncs) * float64(time.Second))
	}
	return out
}
