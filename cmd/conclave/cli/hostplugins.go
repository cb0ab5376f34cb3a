package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/fx"
	"google.golang.org/grpc"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/catalog"
	"github.com/conclavehq/conclave/plugins/catalog/admin"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// pluginStop is how long processes may take that outlived the stop of their host.
const pluginStop = time.Second

// hostPlugins are the processes that a host of this program stands on: its plugins,
// and those of its own recipes that run apart from it.
type hostPlugins struct {
	launcher *launcher.Launcher
	service  *admin.Service // nil: there is nowhere to keep plugins
	dev      bool
}

// loadPlugins reads what plugins a host has. What is wrong with one of them is told,
// and keeps the host from nothing; the error is of the configuration, or of what
// --plugin names.
func (a *app) loadPlugins(ctx context.Context, r hostRun, own []recipe.Recipe) (_ *hostPlugins, err error) {
	section, err := catalog.ParseConfig(r.config.Plugins)
	if err != nil {
		return nil, configError(err)
	}
	p := &hostPlugins{dev: r.dev, launcher: launcher.New(launcher.Config{
		RunDir: runDir(r.config.DataDir), Log: r.log,
		Quarantine: launcher.Quarantine{Crashes: section.Quarantine.Crashes, Within: time.Duration(section.Quarantine.Within)},
	})}
	if r.config.DataDir == "" {
		if len(r.config.Plugins) > 0 || len(r.plugins) > 0 {
			return nil, usage("invalid_configuration", "give data_dir, or --data-dir", "data_dir: is empty, and plugins are kept there")
		}
		return p, nil
	}
	c, err := catalog.Open(section, r.config.DataDir)
	if err != nil {
		return nil, configError(err)
	}
	mode := func(m host.RecipeMode) func(string) bool {
		return func(name string) bool { return r.config.Recipes[name].Mode == m }
	}
	p.service = admin.New(admin.Config{Catalog: c, Launcher: p.launcher, Log: r.log, Reserved: reservedNames(own),
		Off: mode(host.Off), Inprocess: mode(host.Inprocess)})
	if err := p.service.Load(ctx); err != nil {
		r.log.Error("not all plugins could be loaded", "error", err)
	}
	for _, path := range r.plugins {
		err := p.service.LoadPath(ctx, path)
		if errors.Is(err, admin.ErrInprocess) {
			return nil, configError(err)
		}
		if err != nil {
			return nil, packageError(path, err)
		}
	}
	if err := p.checkModes(r.config); err != nil {
		return nil, err
	}
	return p, a.sayRefused(ctx, p)
}

func runDir(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, "run")
}

func reservedNames(own []recipe.Recipe) []string {
	names := []string{"host", "admin"} // whose services are the host's
	for _, r := range own {
		names = append(names, r.Info().Name)
	}
	return names
}

// checkModes refuses a configuration that wants a plugin in this process.
func (p *hostPlugins) checkModes(cfg host.Config) error {
	for _, r := range p.service.Recipes() {
		if name := r.Recipe.Info().Name; cfg.Recipes[name].Mode == host.Inprocess {
			return usage("invalid_configuration", "take the mode out, or write subprocess", "recipes.%s.mode: a plugin runs in a process of its own", name)
		}
	}
	return nil
}

// sayRefused tells of a dev's plugins that do not run; the log of other hosts has it.
func (a *app) sayRefused(ctx context.Context, p *hostPlugins) error {
	if !p.dev {
		return nil
	}
	all, err := p.service.List(ctx, &pluginv1.ListRequest{})
	for _, one := range all.GetPlugins() {
		if s := one.GetState(); s == pluginv1.PluginState_PLUGIN_STATE_REFUSED || s == pluginv1.PluginState_PLUGIN_STATE_DISCOVERED {
			a.note(fmt.Sprintf("plugin %s does not run: %s", one.GetName(), clean(one.GetMessage())))
		}
	}
	return err
}

// option gives a host its plugins, their administration and their metrics.
func (p *hostPlugins) option() fx.Option {
	opts := []host.Option{host.WithMetrics(p.launcher)}
	if p.service == nil {
		return host.Add(opts...)
	}
	opts = append(opts, host.WithAdmin(p.dev, func(reg grpc.ServiceRegistrar) { pluginv1.RegisterPluginServiceServer(reg, p.service) }))
	for _, r := range p.service.Recipes() {
		opts = append(opts, host.WithOptionalRecipe(r.Recipe, r.Instead))
	}
	return host.Add(opts...)
}

// bind lets the plugins of a host that serves be changed.
func (p *hostPlugins) bind(h *host.Host) {
	if p.service != nil {
		p.service.Bind(h)
	}
}

// close ends what outlived the host.
func (p *hostPlugins) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), pluginStop, errors.New("they did not end in time"))
	defer cancel()
	if err := p.launcher.Close(ctx); err != nil {
		return fmt.Errorf("end the processes of plugins: %w", err)
	}
	return nil
}

// absolute makes the paths of --plugin independent of where they are read.
func absolute(paths []string) ([]string, error) {
	all := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if all[i], err = filepath.Abs(cmp.Or(path, ".")); err != nil {
			return nil, err
		}
	}
	return all, nil
}
