package conformance

import (
	"context"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock"
)

// scenarioOfLock is that of the recipe into which mistakes are sown.
func scenarioOfLock() Scenario {
	const service = "conclave.lock.v1.LockService/"
	return Scenario{
		Name: "mutex",
		Take: NewCall(service+"Acquire", `{"name":"$name"}`),
		Show: NewCall(service+"Why", `{"name":"$name"}`, "holders.0.owner", "holders.0.token"),
		Wait: NewCall(service+"Acquire", `{"name":"$name"}`),
		Free: NewCall(service+"Release", `{"name":"$name","token":"$take.token"}`),
	}
}

// A sown recipe is the lock recipe with a mistake.
type sown struct {
	info  func(i *recipe.Info)
	open  func(env recipe.Env) error
	call  func(c sownCall) (any, error)
	close func(ctx context.Context, env recipe.Env, i recipe.Instance) error
}

// A sownCall is a unary call on its way to the lock recipe.
type sownCall struct {
	context.Context

	env    recipe.Env
	method string
	req    any
	handle func(ctx context.Context) (any, error)
}

// Info implements recipe.Recipe.
func (b sown) Info() recipe.Info {
	i := lock.Recipe{}.Info()
	if b.info != nil {
		b.info(&i)
	}
	return i
}

// Open implements recipe.Recipe.
func (b sown) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if b.open != nil {
		if err := b.open(env); err != nil {
			return nil, err
		}
	}
	if b.call != nil {
		reg = sownRegistrar{reg, b, env}
	}
	i, err := lock.Recipe{}.Open(ctx, env, reg)
	if err != nil || b.close == nil {
		return i, err
	}
	return sownInstance{i, b, env}, nil
}

type sownInstance struct {
	recipe.Instance

	b   sown
	env recipe.Env
}

// Close implements recipe.Instance.
func (i sownInstance) Close(ctx context.Context) error { return i.b.close(ctx, i.env, i.Instance) }

// sownRegistrar puts the mistake into every unary call.
type sownRegistrar struct {
	grpc.ServiceRegistrar

	b   sown
	env recipe.Env
}

// RegisterService implements grpc.ServiceRegistrar.
func (r sownRegistrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = slices.Clone(desc.Methods)
	for i, m := range d.Methods {
		d.Methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(srv, ctx, dec, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				return r.b.call(sownCall{ctx, r.env, m.MethodName, req, func(ctx context.Context) (any, error) { return handler(ctx, req) }})
			})
		}
	}
	r.ServiceRegistrar.RegisterService(&d, impl)
}

// on makes a mistake of one method.
func on(method string, mistake func(c sownCall) (any, error)) sown {
	return sown{call: func(c sownCall) (any, error) {
		if c.method != method {
			return c.handle(c)
		}
		return mistake(c)
	}}
}

// onAcquire makes a mistake in acquiring locks.
func onAcquire(mistake func(c sownCall, req *lockv1.AcquireRequest) (any, error)) sown {
	return on("Acquire", func(c sownCall) (any, error) { return mistake(c, c.req.(*lockv1.AcquireRequest)) })
}

// wipe deletes the recipe's keys on leases.
func wipe(ctx context.Context, env recipe.Env) error {
	start, end, err := env.Keys("default")
	if err != nil {
		return err
	}
	resp, err := env.Client.Get(ctx, start, clientv3.WithRange(end))
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		if kv.Lease == 0 {
			continue
		}
		if _, err := env.Client.Delete(ctx, string(kv.Key)); err != nil {
			return err
		}
	}
	return nil
}
