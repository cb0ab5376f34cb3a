package host_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
)

// measured is a recipe that tells metrics, good and bad ones.
type measured struct {
	name string
	tell func() ([]*dto.MetricFamily, error)
}

func (m measured) Info() recipe.Info { return recipe.Info{Name: m.name, Version: "1.0.0"} }

func (m measured) Open(context.Context, recipe.Env, grpc.ServiceRegistrar) (recipe.Instance, error) {
	return m, nil
}

func (measured) Close(context.Context) error { return nil }

func (m measured) Collect(context.Context) ([]*dto.MetricFamily, error) { return m.tell() }

func family(name string, kind dto.MetricType, metrics ...*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: new(name), Help: new("Help of " + name), Type: kind.Enum(), Metric: metrics}
}

func counter(v float64, labels ...string) *dto.Metric {
	m := &dto.Metric{Counter: &dto.Counter{Value: new(v)}}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: new(labels[i]), Value: new(labels[i+1])})
	}
	return m
}

// Recipes tell metrics of their own. Whatever they tell, the host's metrics are
// there.
func TestMetricsOfRecipes(t *testing.T) {
	t.Parallel()
	const kind = dto.MetricType_COUNTER
	good := measured{name: "good", tell: func() ([]*dto.MetricFamily, error) {
		return []*dto.MetricFamily{family("tokens_total", kind, counter(3, "quota", "mail"), counter(4, "quota", "sms"))}, nil
	}}
	hostile := measured{name: "hostile-one", tell: func() ([]*dto.MetricFamily, error) {
		many := family("many_total", kind)
		for n := range 5000 {
			many.Metric = append(many.Metric, counter(1, "n", strings.Repeat("x", n+1)))
		}
		return []*dto.MetricFamily{
			family("conclave_calls_total", dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: new(1.0)}}),
			family("tokens_total", dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: new(1.0)}}),
			family("recipe_tokens_total", kind, counter(1, "other", "label")),
			family("not a name", kind, counter(1)),
			family("twice_total", kind, counter(1), counter(2), counter(1, "recipe", "good"), counter(1, "__name__", "x"), counter(1, "no label", "x"), counter(1, "l", "\xff")),
			family("empty_total", kind, &dto.Metric{}),
			family("both_total", kind, &dto.Metric{Counter: &dto.Counter{Value: new(1.0)}, Gauge: &dto.Gauge{Value: new(7.0)}}),
			nil, {}, many,
		}, nil
	}}
	failing := measured{name: "failing", tell: func() ([]*dto.MetricFamily, error) { return nil, errors.New("no") }}
	panicking := measured{name: "panicking", tell: func() ([]*dto.MetricFamily, error) { panic("no") }}
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	hanging := measured{name: "hanging", tell: func() ([]*dto.MetricFamily, error) { <-silent; return nil, nil }}
	h := start(t, onEtcd(), host.WithRecipe(good), host.WithRecipe(hostile), host.WithRecipe(failing), host.WithRecipe(panicking), host.WithRecipe(hanging),
		host.WithMetrics(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "conclave_plugin_test", Help: "Beside."}, func() float64 { return 5 })))
	got := get(t, web(t), h.API()+"/metrics")
	if got.status != http.StatusOK {
		t.Fatalf("%d: %.500s", got.status, got.body)
	}
	for _, want := range []string{
		`recipe_tokens_total{quota="mail",recipe="good"} 3`, `recipe_tokens_total{quota="sms",recipe="good"} 4`,
		`recipe_conclave_calls_total{recipe="hostile-one"} 1`, `recipe_twice_total{recipe="hostile-one"} 1`, `recipe_both_total{recipe="hostile-one"} 1`,
		"# TYPE recipe_both_total counter", "conclave_sessions ", "conclave_plugin_test 5",
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, bad := range []string{`recipe_tokens_total{recipe="hostile-one"}`, `other="label"`, "not a name", `recipe_twice_total{recipe="good"}`} {
		if strings.Contains(got.body, bad) {
			t.Errorf("there is %s", bad)
		}
	}
	if n := strings.Count(got.body, "recipe_many_total{"); n == 0 || n > 1000 {
		t.Errorf("%d series of one recipe", n)
	}
}
