package conformance

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
)

// probing is what a probe does beside what the recipe does.
type probing struct {
	open  func(ctx context.Context, env recipe.Env) // called before the recipe's Open
	twice chan error                                // close it twice, and tell what came of it
}

// A probe is a recipe that is looked into: it counts the calls in its handlers.
type probe struct {
	inner recipe.Recipe
	with  probing
	busy  *gauge
}

var _ recipe.Validator = (*probe)(nil)

func newProbe(r recipe.Recipe, with probing) *probe {
	return &probe{inner: r, with: with, busy: newGauge()}
}

// Info implements recipe.Recipe.
func (p *probe) Info() recipe.Info { return p.inner.Info() }

// Validate implements recipe.Validator.
func (p *probe) Validate(config proto.Message) error {
	if v, ok := p.inner.(recipe.Validator); ok {
		return v.Validate(config)
	}
	return nil
}

// Open implements recipe.Recipe.
func (p *probe) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if p.with.open != nil {
		p.with.open(ctx, env)
	}
	i, err := p.inner.Open(ctx, env, counted{reg, p.busy})
	if err != nil || p.with.twice == nil {
		return i, err
	}
	return &closedTwice{Instance: i, told: p.with.twice}, nil
}

// closedTwice is an instance that is closed twice. It has the check's time for
// that, and not what a host has left for it: machines may be busy.
type closedTwice struct {
	recipe.Instance

	told chan error
	once sync.Once
}

// Close implements recipe.Instance.
func (c *closedTwice) Close(ctx context.Context) error {
	c.once.Do(func() {
		ctx := context.WithoutCancel(ctx)
		err := c.Instance.Close(ctx)
		if err != nil {
			err = fmt.Errorf("close: %w", err)
		} else if err = c.Instance.Close(ctx); err != nil {
			err = fmt.Errorf("the second close: %w", err)
		}
		c.told <- err
	})
	return nil
}

// counted is a registrar whose services count their calls.
type counted struct {
	grpc.ServiceRegistrar
	busy *gauge
}

// RegisterService implements grpc.ServiceRegistrar.
func (c counted) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods, d.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range d.Methods {
		d.Methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, use grpc.UnaryServerInterceptor) (any, error) {
			c.busy.enter()
			defer c.busy.leave()
			return m.Handler(srv, ctx, dec, use)
		}
	}
	for i, m := range d.Streams {
		d.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
			c.busy.enter()
			defer c.busy.leave()
			return m.Handler(srv, stream)
		}
	}
	c.ServiceRegistrar.RegisterService(&d, impl)
}

// A gauge counts what is under way.
type gauge struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed while n is 0
}

func newGauge() *gauge {
	g := &gauge{none: make(chan struct{})}
	close(g.none)
	return g
}

func (g *gauge) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n++; g.n == 1 {
		g.none = make(chan struct{})
	}
}

func (g *gauge) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 {
		close(g.none)
	}
}

// idle waits until nothing is under way.
func (g *gauge) idle(ctx context.Context) error {
	g.mu.Lock()
	none := g.none
	g.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
