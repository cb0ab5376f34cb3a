package router_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFront(t, router.Config{Metrics: reg})
	entered := make(chan struct{}, 1)
	e := held("", entered, nil)
	inner := e.unary
	e.unary = func(ctx context.Context, method string, in message) (message, error) {
		switch in.text() {
		case "panic":
			panic("x")
		case "fail":
			return message{}, reason.Errorf(grpccodes.Aborted, "locked", "x")
		}
		return inner(ctx, method, in)
	}
	f.local(t, "echo", e, echoName)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		_, _ = f.callIn(ctx, t, "Settle", "wait")
	}()
	<-entered
	for _, text := range []string{"", "", "fail", "panic"} {
		_, _ = f.call(t, "Do", text)
	}
	in := newMessage(service(t, echoName).Methods().ByName("Do").Input(), "")
	_, _ = f.invoke(t.Context(), "/made.up/Name", in)
	_, _ = f.invoke(t.Context(), "/made.up/Another", in)
	const want = `
# HELP conclave_call_panics_total Calls whose recipe panicked.
# TYPE conclave_call_panics_total counter
conclave_call_panics_total{method="Do",service="routertest.EchoService"} 1
# HELP conclave_calls_total Calls that ended, by their gRPC code.
# TYPE conclave_calls_total counter
conclave_calls_total{code="Aborted",method="Do",service="routertest.EchoService"} 1
conclave_calls_total{code="Internal",method="Do",service="routertest.EchoService"} 1
conclave_calls_total{code="OK",method="Do",service="routertest.EchoService"} 2
conclave_calls_total{code="Unimplemented",method="unknown",service="unknown"} 2
`
	// A call is counted after its caller has the answer.
	until(t, func() bool { return counted(t, reg) == 6 })
	got, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var nonzero []string
	for _, family := range got {
		for _, m := range family.GetMetric() {
			if family.GetName() == "conclave_calls_in_flight" && m.GetGauge().GetValue() != 0 {
				nonzero = append(nonzero, m.String())
			}
			if family.GetName() == "conclave_call_seconds" && strings.Contains(m.String(), `"Do"`) && m.GetHistogram().GetSampleCount() != 4 {
				t.Errorf("got %v, want 4 samples", m)
			}
		}
	}
	if len(nonzero) != 1 || !strings.Contains(nonzero[0], `"Settle"`) {
		t.Errorf("in flight: got %q, want the one that waits", nonzero)
	}
	if text := exposed(t, reg, "conclave_call_panics_total", "conclave_calls_total"); text != want[1:] {
		t.Errorf("got\n%s, want\n%s", text, want)
	}
	cancel()
	<-waiting
	if _, err := router.New(router.Config{Metrics: reg}); err == nil {
		t.Error("two routers on one registry: got no error")
	}
}

// A pipeline's refusals are counted as those of calls that come alone.
func TestMetricsOfRefusedPiped(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newPiped(t, router.Config{Metrics: reg}, &echo{}).wire(t.Context(), t)
	w.send(to(t, 1, "Chat", ""))
	want(t, w.refusal(1), grpccodes.InvalidArgument, "invalid_method")
	w.send(with(to(t, 2, "Do", ""), "X Y", "v"))
	want(t, w.refusal(2), grpccodes.InvalidArgument, "invalid_metadata")
	if n := counted(t, reg); n != 2 {
		t.Errorf("%v calls are counted", n)
	}
}

// exposed renders the metrics of some names as a scrape has them, without those
// that are still 0.
func exposed(t *testing.T, g prometheus.Gatherer, names ...string) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		if !slices.Contains(names, family.GetName()) {
			continue
		}
		family.Metric = slices.DeleteFunc(family.GetMetric(), func(m *dto.Metric) bool { return m.GetCounter().GetValue() == 0 })
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// counted sums the calls that ended.
func counted(t *testing.T, g prometheus.Gatherer) (n float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "conclave_calls_total" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func TestTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var got metadata.MD
	e := seen(&got)
	inner := e.unary
	var inside trace.SpanContext
	e.unary = func(ctx context.Context, method string, in message) (message, error) {
		inside = trace.SpanContextFromContext(ctx)
		if in.text() == "fail" {
			return message{}, reason.Errorf(grpccodes.Aborted, "locked", "x")
		}
		return inner(ctx, method, in)
	}
	f := newFront(t, router.Config{Traces: provider})
	f.local(t, "echo", e, echoName)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent, "tracestate", "a=b")
	if _, err := f.callIn(ctx, t, "Do", ""); err != nil {
		t.Fatal(err)
	}
	_, err := f.callIn(ctx, t, "Do", "fail")
	want(t, err, grpccodes.Aborted, "locked")
	until(t, func() bool { return len(spans.Ended()) == 2 })
	ok, failed := spans.Ended()[0], spans.Ended()[1]
	if ok.Name() != echoName+"/Do" || ok.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" ||
		ok.Parent().SpanID().String() != "b7ad6b7169203331" || ok.SpanKind() != trace.SpanKindServer {
		t.Errorf("got span %s of %s below %s", ok.Name(), ok.SpanContext().TraceID(), ok.Parent().SpanID())
	}
	if failed.Status().Code != codes.Error || ok.Status().Code != codes.Unset {
		t.Errorf("got %v and %v", ok.Status(), failed.Status())
	}
	if v := got.Get("traceparent"); len(v) != 1 || !strings.Contains(v[0], ok.SpanContext().SpanID().String()) {
		t.Errorf("the service is told %q, want the span %s", v, ok.SpanContext().SpanID())
	}
	if !inside.IsValid() || first(got, "tracestate") != "a=b" {
		t.Errorf("inside: %v, tracestate %q", inside, first(got, "tracestate"))
	}
}
