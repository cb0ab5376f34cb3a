package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/internal/suggest"
)

// An instance is a recipe that runs.
type instance struct {
	info      recipe.Info
	space     *scope.Space
	env       recipe.Env
	running   recipe.Instance
	unpublish func(*router.Registrar)
	since     time.Time // it is ready

	stop    context.CancelFunc // of watching
	watched sync.WaitGroup

	telling, checking atomic.Bool // it is being asked for its metrics, or its health

	mu        sync.Mutex // held while it is opened, and while its services change
	published *router.Registrar
	served    bool // over every transport; else what it registered may be another's
	closed    bool
	ill       string    // what it says is wrong with it
	illAt     time.Time // that changed
}

// recipeList tells what recipes the host has, those that are off included, by name.
func (h *Host) recipeList() []*hostv1.Recipe {
	var all []*hostv1.Recipe
	for _, i := range h.running() {
		all = append(all, i.describe())
	}
	for _, r := range h.opts.recipes {
		if info := r.Info(); h.cfg.Recipes[info.Name].Mode == "off" {
			all = append(all, &hostv1.Recipe{Name: info.Name, Version: info.Version, Summary: info.Summary,
				Mode: hostv1.RecipeMode_RECIPE_MODE_OFF, State: hostv1.RecipeState_RECIPE_STATE_STOPPED})
		}
	}
	slices.SortFunc(all, func(a, b *hostv1.Recipe) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all
}

func (i *instance) describe() *hostv1.Recipe {
	r := &hostv1.Recipe{Name: i.info.Name, Version: i.info.Version, Summary: i.info.Summary,
		Mode: hostv1.RecipeMode_RECIPE_MODE_INPROCESS, State: hostv1.RecipeState_RECIPE_STATE_READY, Since: timestamppb.New(i.since)}
	if told, ok := i.running.(recipe.Reporter); ok {
		now, _ := told.Report()
		addReport(r, now)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.illAt.IsZero() {
		r.Since = timestamppb.New(i.illAt)
	}
	if i.ill != "" {
		r.State, r.Message = hostv1.RecipeState_RECIPE_STATE_DEGRADED, i.ill
	}
	for _, s := range i.published.Services() {
		r.Services = append(r.Services, string(s.FullName()))
	}
	return r
}

// openOne opens a recipe on its own part of etcd, and serves it.
func (h *Host) openOne(ctx context.Context, r recipe.Recipe) (_ *instance, err error) {
	info := r.Info()
	log := h.log.With("recipe", info.Name)
	config, err := configOf(r, h.cfg.Recipes[info.Name].Config)
	if err != nil {
		return nil, err
	}
	i := &instance{info: info, published: h.parts.router.Registrar(info.Name), unpublish: h.unpublish}
	if i.space, err = scope.New(h.parts.store.backend, info.Name, log); err != nil {
		return nil, fmt.Errorf("recipe %q: %w", info.Name, err)
	}
	i.env = recipe.NewEnv(info.Name, i.space.Client(), config, log).WithCarrier(carrier{i.space, h, i})
	defer func() {
		if err != nil {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
			defer cancel()
			err = errors.Join(fmt.Errorf("recipe %q: %w", info.Name, err), i.close(closing))
		}
	}()
	i.mu.Lock() // an instance may want to exchange its services before they are served
	i.running, err = guarded(func() (recipe.Instance, error) { return r.Open(ctx, i.env, i.published) })
	if err == nil {
		i.since = time.Now()
		err = h.publish(i.published)
		i.served = err == nil
	}
	i.mu.Unlock()
	if err == nil {
		h.follow(i)
	}
	return i, err
}

// guarded turns a panic of a recipe into an error.
func guarded(open func() (recipe.Instance, error)) (i recipe.Instance, err error) {
	defer func() {
		if p := recover(); p != nil {
			i, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return open()
}

// publish serves what a registrar has collected: on the router first, which the
// other transports enter, then over HTTP.
func (h *Host) publish(g *router.Registrar) error {
	if err := g.Publish(); err != nil {
		return err
	}
	for _, s := range g.Services() {
		if err := h.parts.edge.Set(s); err != nil {
			h.unpublish(g)
			return fmt.Errorf("service %s over HTTP: %w", s.FullName(), err)
		}
	}
	return nil
}

// unpublish is publish backwards.
func (h *Host) unpublish(g *router.Registrar) {
	for _, s := range g.Services() {
		h.parts.edge.Drop(s.FullName())
	}
	g.Withdraw()
}

// close ends the instance; its calls have ended before.
func (i *instance) close(ctx context.Context) error {
	i.withdraw()
	if i.stop != nil {
		i.stop()
		i.watched.Wait()
	}
	var err error
	if i.running != nil {
		if err = closed(ctx, i.running); err != nil {
			err = fmt.Errorf("close recipe %q: %w", i.info.Name, err)
		}
	}
	i.env.Close()
	return errors.Join(err, i.space.Close())
}

// withdraw serves the instance no longer, and returns what it served.
func (i *instance) withdraw() *router.Registrar {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.served && !i.closed {
		i.unpublish(i.published)
	}
	i.closed = true
	return i.published
}

// closed closes a recipe, and waits for it until ctx ends: one that panics or does
// not return must not keep the host from stopping.
func closed(ctx context.Context, i recipe.Instance) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		done <- i.Close(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// configOf reads a recipe's configuration, and asks the recipe about it.
func configOf(r recipe.Recipe, raw json.RawMessage) (proto.Message, error) {
	info := r.Info()
	config, err := decodeConfig(info, raw)
	if v, ok := r.(recipe.Validator); ok && err == nil && config != nil {
		if wrong := v.Validate(config); wrong != nil {
			return nil, configError("recipes."+info.Name+".config", "%w", wrong)
		}
	}
	return config, err
}

// decodeConfig reads a recipe's configuration strictly into a message of its type.
func decodeConfig(info recipe.Info, raw json.RawMessage) (proto.Message, error) {
	field := "recipes." + info.Name + ".config"
	given := len(bytes.TrimSpace(raw)) > 0 && string(raw) != "null"
	if info.Config == nil {
		if given {
			return nil, configError(field, "the recipe takes no configuration")
		}
		return nil, nil //nolint:nilnil // no configuration is what there is
	}
	m := proto.Clone(info.Config)
	if !given {
		return m, nil
	}
	if err := protojson.Unmarshal(raw, m); err != nil {
		return nil, configError(field, "%s", explainConfig(m, err))
	}
	return m, nil
}

var position = regexp.MustCompile(`^proto:[ \x{a0}](?:\(line \d+:\d+\): )?`)

// explainConfig takes off the text of protojson its prefix, and a position that is
// not one in the file, and says what was meant.
func explainConfig(m proto.Message, err error) string {
	text := position.ReplaceAllString(err.Error(), "")
	if u := unknownField.FindStringSubmatch(text); u != nil {
		fields := m.ProtoReflect().Descriptor().Fields()
		var names []string
		for i := range fields.Len() {
			names = append(names, string(fields.Get(i).Name()))
		}
		if meant := suggest.Closest(u[1], names); meant != "" {
			text += fmt.Sprintf("; did you mean %q?", meant)
		}
	}
	return text
}
