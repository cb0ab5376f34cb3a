package host

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/recipe"
)

// An Option adds something to a host.
type Option func(*options)

type options struct {
	recipes  []recipe.Recipe
	handlers []handler
	runners  []Runner
	log      *slog.Logger
	onFatal  func(reason string)
	admin    []func(grpc.ServiceRegistrar)
	adminTCP bool
	metrics  []prometheus.Collector

	checkEvery time.Duration // between two questions whether a recipe is well
}

type handler struct {
	pattern string
	http.Handler
}

// A Runner is something that runs as long as the host serves.
type Runner interface {
	// Run returns when ctx ends. An error ends the host.
	Run(ctx context.Context, h *Host) error
}

// WithRecipe adds a recipe, which runs in this process. Two of one name make
// New fail.
func WithRecipe(r recipe.Recipe) Option {
	return func(o *options) { o.recipes = append(o.recipes, r) }
}

// WithHTTP serves a handler on the API's listener, for a pattern of
// net/http.ServeMux. A pattern that the host or another option has made New
// fail. Where callers are asked who they are, h is for those who may read.
func WithHTTP(pattern string, h http.Handler) Option {
	return func(o *options) { o.handlers = append(o.handlers, handler{pattern, h}) }
}

// WithRunner runs r from the moment at which the host serves until it stops.
func WithRunner(r Runner) Option { return func(o *options) { o.runners = append(o.runners, r) } }

// WithMetrics adds metrics to those of the host. One whose name is taken makes
// Start fail.
func WithMetrics(c prometheus.Collector) Option {
	return func(o *options) { o.metrics = append(o.metrics, c) }
}

// WithLogger sets the logger. The default is silent.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithFatal sets a function that is called when the embedded etcd is about to
// end the process, because its disk is full or broken: deferred calls will not
// run after it.
func WithFatal(f func(reason string)) Option { return func(o *options) { o.onFatal = f } }
