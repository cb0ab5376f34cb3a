package recipe

import (
	"context"

	"google.golang.org/grpc"
)

// A Carrier is what an [Env] gives to a recipe that stands for another process:
// it carries the instance's share of etcd there, and exchanges what the instance
// serves. It is safe for concurrent use.
type Carrier interface {
	// Register serves the instance's share of etcd on reg, as etcd's own KV, Watch
	// and Lease API. It is the same share that Env.Client has, with the same
	// refusals, and ends with the instance.
	Register(reg grpc.ServiceRegistrar)
	// Unknown answers, as grpc.UnknownServiceHandler, calls of everything else of
	// etcd's API: they are refused as Env.Client refuses them.
	Unknown(srv any, stream grpc.ServerStream) error
	// Exchange opens the instance's services anew: what register registers takes
	// the place of what is served, in one step, and no call is lost. After an error
	// nothing has changed. Calls under way go on where they are; wait returns nil
	// when none is left, or the cause of the end of its ctx.
	Exchange(register func(reg grpc.ServiceRegistrar) error) (wait func(ctx context.Context) error, err error)
}

// Carrier returns what serves another process. It is nil where no host made the
// Env, such as in a test of a recipe.
func (e Env) Carrier() Carrier { return e.carrier }

// WithCarrier returns e with a carrier, for hosts.
func (e Env) WithCarrier(c Carrier) Env {
	e.carrier = c
	return e
}
