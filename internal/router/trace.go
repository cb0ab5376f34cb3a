package router

import (
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// trace makes a span for the call, below the one that the caller named in the W3C
// keys, and names it to the service in the same keys. Without a tracer they pass
// untouched.
func (r *Router) trace(rt *route, next handler) handler {
	if r.tracer == nil {
		return next
	}
	attributes := trace.WithAttributes(
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", rt.method.Service()), attribute.String("rpc.method", rt.method.Name()))
	name := rt.method.FullName[1:]
	return func(c *call) error {
		keys := propagation.TraceContext{}
		md, _ := metadata.FromIncomingContext(c.ctx)
		ctx, span := r.tracer.Start(keys.Extract(c.ctx, carrier(md)), name, trace.WithSpanKind(trace.SpanKindServer), attributes)
		defer span.End()
		c.ctx = ctx
		md = md.Copy()
		keys.Inject(ctx, carrier(md))
		c.setMetadata(md)
		err := next(c)
		code := codes.OK
		if err != nil {
			code, _ = codeOf(err)
			span.SetStatus(otelcodes.Error, code.String())
		}
		span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(code)))
		return err
	}
}

// A carrier gives a propagator the metadata of a call.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
