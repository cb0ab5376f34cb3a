package host

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What counts is what happened within the window, not since the start.
func TestVitalsAreOfTheLastMinutes(t *testing.T) {
	registry := prometheus.NewRegistry()
	fsync := prometheus.NewHistogram(prometheus.HistogramOpts{Name: fsyncMetric, Help: "x"})
	changes := prometheus.NewCounter(prometheus.CounterOpts{Name: leaderMetric, Help: "x"})
	registry.MustRegister(fsync, changes)
	v := &vitals{gatherer: registry}
	now := time.Now()
	fsync.Observe(60)
	changes.Add(9)
	v.take(now)
	if got := v.tell(); got.Fsyncs != 0 || got.LeaderChanges != 0 {
		t.Errorf("after one sample: %+v", got)
	}
	fsync.Observe(0.2)
	fsync.Observe(0.4)
	changes.Inc()
	v.take(now.Add(vitalEvery))
	if got := v.tell(); got.Fsyncs != 2 || got.Fsync.Round(time.Millisecond) != 300*time.Millisecond || got.LeaderChanges != 1 || got.Window != vitalEvery {
		t.Errorf("after two: %+v", got)
	}
	v.take(now.Add(vitalWindow + vitalEvery + 1))
	v.take(now.Add(vitalWindow + 2*vitalEvery + 1))
	if got := v.tell(); got.Fsyncs != 0 {
		t.Errorf("long after: %+v", got)
	}
}
