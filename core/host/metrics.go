package host

import (
	"github.com/prometheus/client_golang/prometheus"
)

// What the host tells of itself beside the router's calls.
var (
	sessionsDesc = prometheus.NewDesc("conclave_sessions", "Live sessions of this etcd, as this host knows them.", nil, nil)
	connsDesc    = prometheus.NewDesc("conclave_connections", "Open connections of the API.", nil, nil)
	refusedDesc  = prometheus.NewDesc("conclave_connections_refused_total", "Connections refused at the limit.", nil, nil)
	guardDesc    = prometheus.NewDesc("conclave_recipe_refusals_total", "What recipes asked of etcd and were refused.", []string{"recipe", "kind"}, nil)
)

// hostMetrics are a host as a prometheus.Collector.
type hostMetrics struct{ host *Host }

// Describe implements prometheus.Collector.
func (hostMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- sessionsDesc
	out <- connsDesc
	out <- refusedDesc
	out <- guardDesc
}

// Collect implements prometheus.Collector. It tells of what runs once the host is
// ready.
func (m hostMetrics) Collect(out chan<- prometheus.Metric) {
	h, p := m.host, m.host.parts
	if !p.ready.Load() {
		return
	}
	out <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(p.sessions.Len()))
	var open, refused float64
	for _, s := range p.servers.splits {
		open += float64(s.Open())
		refused += float64(s.Refused())
	}
	out <- prometheus.MustNewConstMetric(connsDesc, prometheus.GaugeValue, open)
	out <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, refused)
	for _, i := range h.running() {
		for kind, n := range i.space.Refusals() {
			out <- prometheus.MustNewConstMetric(guardDesc, prometheus.CounterValue, float64(n), i.info.Name, kind)
		}
	}
}
