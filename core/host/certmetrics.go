package host

import "github.com/prometheus/client_golang/prometheus"

var certificateDesc = prometheus.NewDesc("conclave_certificate_expires_timestamp_seconds",
	"When a certificate of this host ends, as Unix time.", []string{"field"}, nil)

// certMetrics tells when certificates end, from before the host is ready: one that
// has ended may be why it is not.
type certMetrics struct{ cfg Config }

// Describe implements prometheus.Collector.
func (certMetrics) Describe(out chan<- *prometheus.Desc) { out <- certificateDesc }

// Collect implements prometheus.Collector.
func (m certMetrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.cfg.certificates() {
		if c.Err == nil {
			out <- prometheus.MustNewConstMetric(certificateDesc, prometheus.GaugeValue, float64(c.Expires.Unix()), c.Field)
		}
	}
}
