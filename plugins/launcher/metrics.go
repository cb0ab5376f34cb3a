package launcher

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclavehq/conclave/core/recipe"
)

// What a launcher tells of its plugins.
var (
	upDesc       = prometheus.NewDesc("conclave_plugin_up", "Whether the plugin serves.", []string{"recipe", "version"}, nil)
	restartsDesc = prometheus.NewDesc("conclave_plugin_restarts_total", "How often the plugin was started again since its host started.", []string{"recipe"}, nil)
	startDesc    = prometheus.NewDesc("conclave_plugin_start_seconds", "How long the plugin's last start took.", []string{"recipe"}, nil)
	rssDesc      = prometheus.NewDesc("conclave_plugin_rss_bytes", "Resident memory of the plugin's process.", []string{"recipe"}, nil)
	cpuDesc      = prometheus.NewDesc("conclave_plugin_cpu_seconds", "Processor time of the plugin's process since it started.", []string{"recipe"}, nil)
)

var _ prometheus.Collector = (*Launcher)(nil)

// Describe implements prometheus.Collector.
func (*Launcher) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, restartsDesc, startDesc, rssDesc, cpuDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector. It tells of the plugins that a host has
// open; of two of one name, the one that was made last.
func (l *Launcher) Collect(out chan<- prometheus.Metric) {
	l.mu.Lock()
	plugins := slices.Clone(l.plugins)
	l.mu.Unlock()
	seen := make(map[string]bool)
	for _, p := range slices.Backward(plugins) {
		s := p.Status()
		if s.State == recipe.StateStopped || seen[s.Name] {
			continue
		}
		seen[s.Name] = true
		up := 0.0
		if s.PID != 0 {
			up = 1
		}
		out <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up, s.Name, s.Version)
		out <- prometheus.MustNewConstMetric(restartsDesc, prometheus.CounterValue, float64(s.Restarts), s.Name)
		out <- prometheus.MustNewConstMetric(startDesc, prometheus.GaugeValue, s.Started.Seconds(), s.Name)
		if rss, cpu, ok := usage(s.PID); ok && s.PID != 0 {
			out <- prometheus.MustNewConstMetric(rssDesc, prometheus.GaugeValue, float64(rss), s.Name)
			out <- prometheus.MustNewConstMetric(cpuDesc, prometheus.GaugeValue, cpu.Seconds(), s.Name)
		}
	}
}
