package launcher

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrIncompatible says that a version does not serve what another one did.
var ErrIncompatible = errors.New("the version does not serve everything that the one before does")

// Compatible says whether callers of one version can go on with another: every
// service, method, field and value of an enum is there and means the same on the
// wire and in JSON, and so does the configuration. More of each may be there. The
// error is [ErrSpec] or [ErrIncompatible], and names what is missing.
func Compatible(before, after Spec) error {
	a, err := resolve(before)
	if err != nil {
		return err
	}
	b, err := resolve(after)
	if err != nil {
		return err
	}
	return compatible(a, b)
}

func compatible(before, after *resolved) error {
	c := comparison{seen: make(map[protoreflect.FullName]bool)}
	for _, sd := range before.services {
		c.service(sd, after.service(sd.FullName()))
	}
	switch {
	case before.config == nil:
	case after.config == nil:
		c.fault("it takes no configuration any more")
	default:
		c.message(before.config, after.config)
	}
	if len(c.faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrIncompatible, errors.Join(c.faults...))
}

func (r *resolved) service(name protoreflect.FullName) protoreflect.ServiceDescriptor {
	for _, sd := range r.services {
		if sd.FullName() == name {
			return sd
		}
	}
	return nil
}

// A comparison collects what is missing or different.
type comparison struct {
	seen   map[protoreflect.FullName]bool // messages and enums
	faults []error
}

func (c *comparison) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

func (c *comparison) service(before, after protoreflect.ServiceDescriptor) {
	if after == nil {
		c.fault("service %s is missing", before.FullName())
		return
	}
	for i := range before.Methods().Len() {
		m := before.Methods().Get(i)
		n := after.Methods().ByName(m.Name())
		switch {
		case n == nil:
			c.fault("method %s is missing", m.FullName())
		case m.IsStreamingClient() != n.IsStreamingClient() || m.IsStreamingServer() != n.IsStreamingServer():
			c.fault("method %s streams in another way", m.FullName())
		default:
			c.message(m.Input(), n.Input())
			c.message(m.Output(), n.Output())
		}
	}
}

func (c *comparison) message(before, after protoreflect.MessageDescriptor) {
	if before.FullName() != after.FullName() {
		c.fault("%s became %s", before.FullName(), after.FullName())
		return
	}
	if c.seen[before.FullName()] {
		return
	}
	c.seen[before.FullName()] = true
	for i := range before.Fields().Len() {
		f := before.Fields().Get(i)
		c.field(f, after.Fields().ByNumber(f.Number()))
	}
}

func (c *comparison) field(f, g protoreflect.FieldDescriptor) {
	switch {
	case g == nil:
		c.fault("field %s is missing", f.FullName())
		return
	case f.Name() != g.Name() || f.JSONName() != g.JSONName():
		c.fault("field %s is called %s", f.FullName(), g.Name())
		return
	case f.Kind() != g.Kind() || f.Cardinality() != g.Cardinality() || f.IsMap() != g.IsMap():
		c.fault("field %s is of another type", f.FullName())
		return
	}
	if m := f.Message(); m != nil && g.Message() != nil {
		c.message(m, g.Message())
	}
	if e := f.Enum(); e != nil && g.Enum() != nil {
		c.enum(e, g.Enum())
	}
}

func (c *comparison) enum(before, after protoreflect.EnumDescriptor) {
	if before.FullName() != after.FullName() {
		c.fault("%s became %s", before.FullName(), after.FullName())
		return
	}
	if c.seen[before.FullName()] {
		return
	}
	c.seen[before.FullName()] = true
	for i := range before.Values().Len() {
		v := before.Values().Get(i)
		if w := after.Values().ByNumber(v.Number()); w == nil || w.Name() != v.Name() {
			c.fault("value %s of %s is missing", v.Name(), before.FullName())
		}
	}
}
