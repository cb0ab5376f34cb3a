package host

import (
	"context"
	"log/slog"

	"go.uber.org/fx"

	"github.com/conclavehq/conclave/core/recipe"
)

// Module runs a host in an fx program: it takes a [Config], an optional
// *slog.Logger, and what [Recipe] and [Add] provide, and starts and stops with the
// program. When the host ends by itself, the program is shut down.
//
// fx's own StartTimeout bounds the start, and its StopTimeout the stop.
var Module = fx.Module("conclave",
	fx.Provide(provide),
	fx.Invoke(func(*Host) {}),
)

// Recipe provides the recipe that a constructor returns.
func Recipe(constructor any) fx.Option {
	return fx.Provide(fx.Annotate(constructor, fx.As(new(recipe.Recipe)), fx.ResultTags(`group:"conclave.recipes"`)))
}

// Add gives the host more options.
func Add(opts ...Option) fx.Option {
	var all []fx.Option
	for _, o := range opts {
		all = append(all, fx.Supply(fx.Annotate(o, fx.ResultTags(`group:"conclave.options"`))))
	}
	return fx.Options(all...)
}

type params struct {
	fx.In

	Config    Config
	Log       *slog.Logger    `optional:"true"`
	Recipes   []recipe.Recipe `group:"conclave.recipes"`
	Options   []Option        `group:"conclave.options"`
	Lifecycle fx.Lifecycle
	Shutdown  fx.Shutdowner
}

func provide(p params) (*Host, error) {
	opts := p.Options
	if p.Log != nil {
		opts = append(opts, WithLogger(p.Log))
	}
	for _, r := range p.Recipes {
		opts = append(opts, WithRecipe(r))
	}
	h, err := New(p.Config, opts...)
	if err != nil {
		return nil, err
	}
	watched := make(chan struct{})
	p.Lifecycle.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if err := h.Start(ctx); err != nil {
				return err
			}
			go func() {
				defer close(watched)
				<-h.Done()
				// An error says that the program is being shut down already.
				_ = p.Shutdown.Shutdown(fx.ExitCode(exitCode(h.Err())))
			}()
			return nil
		},
		OnStop: func(ctx context.Context) error {
			err := h.Stop(ctx)
			<-watched
			return err
		},
	})
	return h, nil
}

func exitCode(err error) int {
	if err != nil {
		return 1
	}
	return 0
}
