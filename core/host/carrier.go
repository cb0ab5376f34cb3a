package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
	"github.com/conclavehq/conclave/internal/scope"
)

// cancelBudget is for calls to end that were told to.
const cancelBudget = time.Second

// carrier is what an instance gets that stands for another process.
type carrier struct {
	*scope.Space

	host     *Host
	instance *instance
}

var _ recipe.Carrier = carrier{}

// Exchange implements recipe.Carrier.
func (c carrier) Exchange(register func(reg grpc.ServiceRegistrar) error) (func(context.Context) error, error) {
	i := c.instance
	next := c.host.parts.router.Registrar(i.info.Name)
	if err := register(next); err != nil {
		return nil, fmt.Errorf("recipe %q: %w", i.info.Name, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, fmt.Errorf("recipe %q: %w", i.info.Name, errClosed)
	}
	before := i.published
	if err := c.host.replace(before, next); err != nil {
		return nil, err
	}
	i.published = next
	return before.Drain, nil
}

var errClosed = errors.New("the instance is closed")

// replace serves what one registrar has collected in place of another's, or
// changes nothing.
func (h *Host) replace(before, next *router.Registrar) error {
	was, is := before.Services(), next.Services()
	back := func() {
		h.drop(is, was)
		for _, s := range was {
			_ = h.parts.edge.Set(s) // as it was accepted before
		}
	}
	for _, s := range is {
		if err := h.parts.edge.Set(s); err != nil {
			back()
			return fmt.Errorf("service %s over HTTP: %w", s.FullName(), err)
		}
	}
	if err := next.Publish(); err != nil {
		back()
		return err
	}
	h.drop(was, is)
	return nil
}

// drop serves over HTTP no longer what is not in the list of what stays.
func (h *Host) drop(services, stay []protoreflect.ServiceDescriptor) {
	for _, s := range services {
		if !slices.ContainsFunc(stay, func(o protoreflect.ServiceDescriptor) bool { return o.FullName() == s.FullName() }) {
			h.parts.edge.Drop(s.FullName())
		}
	}
}

// release waits for the calls of what was withdrawn or replaced, and ends those
// that are left when ctx ends.
func release(ctx context.Context, g *router.Registrar) {
	if g.Drain(ctx) == nil {
		return
	}
	g.Cancel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelBudget)
	defer cancel()
	_ = g.Drain(ctx) // a handler that heeds no context is nobody's to wait for
}
