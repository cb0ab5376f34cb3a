package plugins

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// An Option changes how a recipe is served or described.
type Option func(*options)

type options struct {
	services []string
}

// WithServices says which services the recipe registers, by their full names, for
// a recipe whose Open cannot register them without an answer from etcd. Without
// it they are found out by opening the recipe once where there is no etcd.
func WithServices(names ...string) Option {
	return func(o *options) { o.services = append(o.services, names...) }
}

func newOptions(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// findService returns the descriptor of a service whose generated code is linked
// into this program, or nil.
func findService(name string) protoreflect.ServiceDescriptor {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	sd, _ := d.(protoreflect.ServiceDescriptor)
	return sd
}

// sorted returns the names in their order, each once.
func sorted(names []string) []string {
	all := slices.Clone(names)
	slices.Sort(all)
	return slices.Compact(all)
}
