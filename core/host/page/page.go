// Package page is the host's plain web page: every recipe, its services and
// their methods, each with a form that calls it.
//
// It is made from descriptors alone, so a recipe that nobody has seen before has
// its page from the moment at which it is served. There is no build step: one
// template, one style sheet, one script.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Path is where the page is served.
const Path = "/ui/"

//go:embed assets
var assets embed.FS

// A Service is one that the page shows.
type Service struct {
	// Recipe is the name of the recipe that the service is of. Services of one
	// recipe stand together, in the order in which they come.
	Recipe string
	// Version is the recipe's.
	Version string
	// Summary is one line about the recipe.
	Summary string
	// State is the recipe's, as the host names it: "ready", "degraded", ….
	State string
	// Descriptor describes the service.
	Descriptor protoreflect.ServiceDescriptor
}

// Options of a page.
type Options struct {
	// Name is the host's.
	Name string
	// Version is the host's.
	Version string
	// Services returns what is served, each time that the page is opened.
	Services func() []Service
	// Log hears of pages that could not be made. Nil: silent.
	Log *slog.Logger
}

// New returns the handler for everything below [Path]. Its answers forbid a
// browser to load anything from elsewhere, to run scripts inside the page, and
// to show the page in a frame.
func New(options Options) (http.Handler, error) {
	if options.Services == nil {
		return nil, fmt.Errorf("page: no services")
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	t, err := template.ParseFS(assets, "assets/page.html")
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return &handler{options: options, page: t}, nil
}

type handler struct {
	options Options
	page    *template.Template
}

// What a browser may do with the page.
const policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the page is only read", http.StatusMethodNotAllowed)
		return
	}
	for name, value := range map[string]string{
		"Content-Security-Policy":    policy,
		"X-Content-Type-Options":     "nosniff",
		"X-Frame-Options":            "DENY",
		"Referrer-Policy":            "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Cache-Control":              "no-cache",
	} {
		w.Header().Set(name, value)
	}
	switch name := strings.TrimPrefix(r.URL.Path, Path); name {
	case "":
		h.serve(w, r)
	case "app.js", "style.css", "icon.svg":
		h.asset(w, r, name)
	default:
		http.NotFound(w, r)
	}
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if err := h.page.Execute(&b, newView(h.options)); err != nil {
		h.options.Log.Error("the page could not be made", "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	send(w, r, "", b.Bytes())
}

func (h *handler) asset(w http.ResponseWriter, r *http.Request, name string) {
	b, err := assets.ReadFile(path.Join("assets", name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	send(w, r, name, b)
}

// send answers with the bytes, or that the browser has them.
func send(w http.ResponseWriter, r *http.Request, name string, b []byte) {
	sum := sha256.Sum256(b)
	w.Header().Set("Etag", `"`+hex.EncodeToString(sum[:12])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}
