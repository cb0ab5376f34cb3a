package host

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
)

const (
	// collectBudget is how long recipes may take to tell their metrics.
	collectBudget = time.Second
	// maxSeries is how many of them one recipe may tell.
	maxSeries = 1000
	// metricPrefix keeps the metrics of recipes apart from those of the host and of
	// its process.
	metricPrefix = "recipe_"
)

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// recipeMetrics are the metrics of a host's recipes. What they tell is theirs, and
// must not keep anybody from seeing the rest: prometheus answers nothing at all
// when two of its metrics contradict each other.
type recipeMetrics struct{ host *Host }

// Describe implements prometheus.Collector: nobody knows before what there will be.
func (recipeMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m recipeMetrics) Collect(out chan<- prometheus.Metric) {
	if !m.host.parts.ready.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), collectBudget)
	defer cancel()
	running := m.host.running()
	told := make([][]*dto.MetricFamily, len(running))
	var all sync.WaitGroup
	for n, i := range running {
		if c, ok := i.running.(recipe.Collector); ok {
			all.Go(func() { told[n] = m.ask(ctx, i, c) })
		}
	}
	all.Wait()
	known := make(map[string]*dto.MetricFamily)
	for n, i := range running {
		series := newSeries(i.info.Name, known)
		for _, f := range told[n] {
			series.add(f, out)
		}
	}
}

// ask asks one recipe. It waits no longer than it may, also for one that does not
// heed its context.
func (m recipeMetrics) ask(ctx context.Context, i *instance, c recipe.Collector) []*dto.MetricFamily {
	families, err := ask(ctx, &i.telling, func() ([]*dto.MetricFamily, error) { return c.Collect(ctx) })
	if err != nil {
		m.host.log.Warn("a recipe does not tell its metrics", "recipe", i.info.Name, "error", err)
		return nil
	}
	return families
}

// series takes from one recipe what does not contradict the others.
type series struct {
	recipe string
	known  map[string]*dto.MetricFamily // by name, as whoever came first has them
	seen   map[string]bool
}

func newSeries(name string, known map[string]*dto.MetricFamily) *series {
	return &series{name, known, make(map[string]bool)}
}

func (s *series) add(f *dto.MetricFamily, out chan<- prometheus.Metric) {
	name := f.GetName()
	if !strings.HasPrefix(name, metricPrefix) {
		name = metricPrefix + name
	}
	if !metricName.MatchString(name) {
		return
	}
	if s.known[name] == nil {
		s.known[name] = f
	}
	if first := s.known[name]; first.GetType() != f.GetType() || !sameLabels(first, f) {
		return
	}
	for _, m := range f.GetMetric() {
		if told := s.metric(name, s.known[name].GetHelp(), f.GetType(), m); told != nil && len(s.seen) <= maxSeries {
			out <- told
		}
	}
}

// sameLabels says that families have the same labels, as far as one tells.
func sameLabels(a, b *dto.MetricFamily) bool {
	if len(a.GetMetric()) == 0 || len(b.GetMetric()) == 0 {
		return true
	}
	return slices.Equal(labelNames(a.GetMetric()[0]), labelNames(b.GetMetric()[0]))
}

func labelNames(m *dto.Metric) []string {
	names := make([]string, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return names
}

// metric returns one metric with the recipe's label, or nil if it cannot be told.
func (s *series) metric(name, help string, kind dto.MetricType, m *dto.Metric) prometheus.Metric {
	labels := map[string]string{"recipe": s.recipe}
	for _, l := range m.GetLabel() {
		if _, twice := labels[l.GetName()]; twice || !labelName.MatchString(l.GetName()) || strings.HasPrefix(l.GetName(), "__") || !utf8.ValidString(l.GetValue()) {
			return nil
		}
		labels[l.GetName()] = l.GetValue()
	}
	there := map[dto.MetricType]bool{
		dto.MetricType_COUNTER: m.GetCounter() != nil, dto.MetricType_GAUGE: m.GetGauge() != nil, dto.MetricType_UNTYPED: m.GetUntyped() != nil,
		dto.MetricType_SUMMARY: m.GetSummary() != nil, dto.MetricType_HISTOGRAM: m.GetHistogram() != nil,
	}
	names := slices.Sorted(maps.Keys(labels))
	var key strings.Builder
	key.WriteString(name)
	full := &dto.Metric{Counter: m.GetCounter(), Gauge: m.GetGauge(), Untyped: m.GetUntyped(), Summary: m.GetSummary(), Histogram: m.GetHistogram()}
	for _, n := range names {
		fmt.Fprintf(&key, " %s=%q", n, labels[n])
		full.Label = append(full.Label, &dto.LabelPair{Name: new(n), Value: new(labels[n])})
	}
	if !there[kind] || s.seen[key.String()] {
		return nil
	}
	s.seen[key.String()] = true
	only(full, kind)
	return told{prometheus.NewDesc(name, strings.ToValidUTF8(help, "\uFFFD"), names, nil), full}
}

// only leaves a metric the value of its kind, by which prometheus knows the kind.
func only(m *dto.Metric, kind dto.MetricType) {
	if kind != dto.MetricType_COUNTER {
		m.Counter = nil
	}
	if kind != dto.MetricType_GAUGE {
		m.Gauge = nil
	}
	if kind != dto.MetricType_UNTYPED {
		m.Untyped = nil
	}
	if kind != dto.MetricType_SUMMARY {
		m.Summary = nil
	}
	if kind != dto.MetricType_HISTOGRAM {
		m.Histogram = nil
	}
}

// told is a metric as a recipe told it.
type told struct {
	desc   *prometheus.Desc
	metric *dto.Metric
}

// Desc implements prometheus.Metric.
func (t told) Desc() *prometheus.Desc { return t.desc }

// Write implements prometheus.Metric.
func (t told) Write(m *dto.Metric) error {
	proto.Merge(m, t.metric)
	return nil
}
