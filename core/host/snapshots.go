package host

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclavehq/conclave/core/snapshot/schedule"
)

// Snapshots says where snapshots of the etcd are kept, and how often they are taken.
type Snapshots struct {
	// To is a directory, which is this host's own, or the URL of a bucket, which all
	// hosts of the cluster share. Empty: no snapshots are taken.
	To string `json:"to"`
	// Every is the time from one to the next, such as "1h"; a minute or more. Default
	// "1h".
	Every string `json:"every"`
	// Keep is how many stay there. Default 24.
	Keep int `json:"keep"`
}

// schedule is what s says; Check has seen it.
func (s Snapshots) schedule() (schedule.Schedule, error) {
	out := schedule.Schedule{To: s.To, Keep: s.Keep}
	if s.Every != "" {
		every, err := time.ParseDuration(s.Every)
		if err != nil {
			return out, configError("snapshots.every", "%q is not a length of time, such as 1h", s.Every)
		}
		out.Every = every
	}
	return out, nil
}

func (s Snapshots) check() error {
	if s == (Snapshots{}) {
		return nil
	}
	out, err := s.schedule()
	if err != nil {
		return err
	}
	if err := out.Check(); err != nil {
		return fmt.Errorf("%w: snapshots: %w", ErrConfig, err)
	}
	return nil
}

// snapshotter is the runner that takes them.
type snapshotter struct{ cfg Snapshots }

// Run implements Runner. A place that cannot be opened ends the host: who set up
// backups must not find out later that there are none.
func (s snapshotter) Run(ctx context.Context, h *Host) error {
	plan, err := s.cfg.schedule()
	if err != nil {
		return err
	}
	m := newSnapshotMetrics()
	if err := h.parts.metrics.Register(m); err != nil {
		return err
	}
	plan.Client, plan.Host, plan.Log = h.parts.store.client, h.cfg.Name, h.log.With("from", "snapshots")
	plan.Leads, plan.Taken = h.parts.store.leads, m.taken
	return plan.Run(ctx)
}

// leads reports whether this host's own member leads the cluster.
func (s *store) leads(ctx context.Context) bool {
	if s.member == nil {
		return false
	}
	look, cancel := context.WithTimeout(ctx, startLook)
	defer cancel()
	st, err := s.client.Status(look, s.endpoints[0])
	return err == nil && st.Leader == st.Header.GetMemberId()
}

// snapshotMetrics tell whether there are snapshots to go back to.
type snapshotMetrics struct {
	last, bytes prometheus.Gauge
	failures    prometheus.Counter
}

func newSnapshotMetrics() *snapshotMetrics {
	return &snapshotMetrics{
		last:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "conclave_snapshot_last_timestamp_seconds", Help: "When this host last took a snapshot; 0 if it has taken none."}),
		bytes:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "conclave_snapshot_last_bytes", Help: "Size of the last snapshot of this host."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "conclave_snapshot_failures_total", Help: "Snapshots that failed."}),
	}
}

func (m *snapshotMetrics) taken(f schedule.File, _ time.Duration, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.last.Set(float64(f.Time.Unix()))
	m.bytes.Set(float64(f.Bytes))
}

// Describe implements prometheus.Collector.
func (m *snapshotMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, out) }

// Collect implements prometheus.Collector.
func (m *snapshotMetrics) Collect(out chan<- prometheus.Metric) {
	m.last.Collect(out)
	m.bytes.Collect(out)
	m.failures.Collect(out)
}
