package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
	"github.com/conclavehq/conclave/internal/scope"
)

// cancelBudget is for calls to end that were told to.
const cancelBudget = time.Second

// A control is a recipe's process as its host sees it.
type control struct {
	pluginv1.UnimplementedControlServiceServer

	recipe   recipe.Recipe
	services []string // that WithServices names
	router   *router.Router
	log      *slog.Logger
	level    *slog.LevelVar
	dial     func(*pluginv1.OpenRequest) (*grpc.ClientConn, error) // to etcd
	stopping func()                                                // the host ends the process
	begun    func()                                                // the host calls; nil: nobody asks

	mu        sync.Mutex // held while it opens and while it drains
	opened    bool
	drained   bool
	conn      *grpc.ClientConn
	closeEtcd func() error
	env       recipe.Env
	instance  recipe.Instance
	published *router.Registrar
}

// Describe implements ControlService.
func (c *control) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	services := c.services
	c.mu.Lock()
	if len(services) == 0 && c.published != nil {
		services = serviceNames(c.published)
	}
	c.mu.Unlock()
	d, err := Describe(c.recipe, WithServices(services...))
	if err != nil {
		return nil, recipe.Errorf(codes.FailedPrecondition, "recipe_failed", "%v", err)
	}
	return &pluginv1.DescribeResponse{Description: d}, nil
}

// Validate implements ControlService.
func (c *control) Validate(_ context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	c.begin()
	_, err := c.config(r.GetConfig())
	return &pluginv1.ValidateResponse{}, err
}

// begin is called before anything of the recipe's runs.
func (c *control) begin() {
	if c.begun != nil {
		c.begun()
	}
}

// config reads a configuration and asks the recipe about it.
func (c *control) config(b []byte) (proto.Message, error) {
	m := defaults(c.recipe.Info())
	if m == nil {
		if len(b) > 0 {
			return nil, recipe.Errorf(codes.InvalidArgument, "invalid_config", "config: the recipe takes none")
		}
		return nil, nil //nolint:nilnil // no configuration is what there is
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_config", "config: is no %s: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if v, ok := c.recipe.(recipe.Validator); ok {
		if err := v.Validate(m); err != nil {
			if recipe.Reason(err) != "" {
				return nil, recipe.Status(err)
			}
			return nil, recipe.Errorf(codes.InvalidArgument, "invalid_config", "%v", err)
		}
	}
	return m, nil
}

// Open implements ControlService.
func (c *control) Open(ctx context.Context, r *pluginv1.OpenRequest) (_ *pluginv1.OpenResponse, err error) {
	c.begin()
	config, err := c.config(r.GetConfig())
	if err != nil {
		return nil, err
	}
	if err := c.setLevel(r.GetLogLevel()); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened || c.drained {
		return nil, recipe.Errorf(codes.FailedPrecondition, "invalid_request", "the recipe was opened before")
	}
	c.opened = true
	if c.conn, err = c.dial(r); err != nil {
		return nil, recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "the host's etcd cannot be reached: %v", err)
	}
	client, closeEtcd := scope.Remote(c.conn, c.log)
	c.closeEtcd = closeEtcd
	c.env = recipe.NewEnv(r.GetInstance(), client, config, c.log)
	c.published = c.router.Registrar(r.GetInstance())
	if c.instance, err = openGuarded(ctx, c.recipe, c.env, c.published); err == nil {
		err = c.published.Publish()
	}
	if err != nil {
		err = errors.Join(err, c.close(ctx))
		if recipe.Reason(err) != "" {
			return nil, recipe.Status(err)
		}
		return nil, recipe.Errorf(codes.Unknown, "recipe_failed", "%v", err)
	}
	c.log.Debug("recipe opened", "instance", r.GetInstance(), "version", c.recipe.Info().Version)
	return &pluginv1.OpenResponse{Services: serviceNames(c.published)}, nil
}

func serviceNames(g *router.Registrar) []string {
	var all []string
	for _, sd := range g.Services() {
		all = append(all, string(sd.FullName()))
	}
	return sorted(all)
}

// Check implements ControlService.
func (c *control) Check(ctx context.Context, _ *pluginv1.CheckRequest) (*pluginv1.CheckResponse, error) {
	checker, ok := c.running().(recipe.Checker)
	if !ok {
		return &pluginv1.CheckResponse{}, nil
	}
	if err := checker.Check(ctx); err != nil {
		return &pluginv1.CheckResponse{Degraded: err.Error()}, ctx.Err()
	}
	return &pluginv1.CheckResponse{}, nil
}

// Collect implements ControlService.
func (c *control) Collect(ctx context.Context, _ *pluginv1.CollectRequest) (*pluginv1.CollectResponse, error) {
	resp := &pluginv1.CollectResponse{}
	collector, ok := c.running().(recipe.Collector)
	if !ok {
		return resp, nil
	}
	families, err := collector.Collect(ctx)
	if err != nil {
		return nil, recipe.Errorf(codes.Unknown, "recipe_failed", "%v", err)
	}
	for _, f := range families {
		b, err := proto.Marshal(f)
		if err != nil {
			return nil, recipe.Errorf(codes.Unknown, "recipe_failed", "metric %s: %v", f.GetName(), err)
		}
		resp.Families = append(resp.Families, b)
	}
	return resp, nil
}

// running returns the instance while it is open, or nil.
func (c *control) running() recipe.Instance {
	if !c.mu.TryLock() { // it opens or drains, which may take its time
		return nil
	}
	defer c.mu.Unlock()
	if c.drained {
		return nil
	}
	return c.instance
}

// SetLogLevel implements ControlService.
func (c *control) SetLogLevel(_ context.Context, r *pluginv1.SetLogLevelRequest) (*pluginv1.SetLogLevelResponse, error) {
	return &pluginv1.SetLogLevelResponse{}, c.setLevel(r.GetLevel())
}

func (c *control) setLevel(name string) error {
	level, err := parseLevel(name)
	if err != nil {
		return recipe.Errorf(codes.InvalidArgument, "invalid_level", "%v", err)
	}
	c.level.Set(level)
	return nil
}

// Drain implements ControlService.
func (c *control) Drain(ctx context.Context, r *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	c.stopping()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained {
		return &pluginv1.DrainResponse{}, nil
	}
	if r.GetStreamsOnly() {
		if c.published != nil {
			c.published.CancelStreams()
		}
		return &pluginv1.DrainResponse{}, nil
	}
	c.drained = true
	c.router.SetServing(false) // so that a call which is on its way is told to come again
	if c.instance == nil {
		return &pluginv1.DrainResponse{}, nil
	}
	c.published.CancelStreams()
	c.published.Suspend()
	patient, cancel := context.WithTimeout(ctx, r.GetTimeout().AsDuration())
	err := c.published.Drain(patient)
	cancel()
	if err != nil {
		c.published.Cancel()
		over, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelBudget)
		defer cancel()
		err = c.published.Drain(over)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
	defer cancel()
	if err := errors.Join(err, c.close(closing)); err != nil {
		c.log.Warn("the recipe did not end in order", "error", err)
	}
	return &pluginv1.DrainResponse{}, nil
}

// close ends what Open began. The caller holds c.mu.
func (c *control) close(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	c.published.Withdraw()
	if c.instance != nil {
		err = c.instance.Close(ctx)
		c.instance = nil
	}
	c.env.Close()
	return errors.Join(err, c.closeEtcd(), c.conn.Close())
}
