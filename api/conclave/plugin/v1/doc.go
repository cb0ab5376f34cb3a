// Package pluginv1 is generated from the protocol between a host and the process
// of a plugin, control.proto, and from the API by which administrators manage the
// plugins of a host.
//
// A plugin in Go is made with package plugins, which speaks the protocol; other
// languages are served by the description in docs/plugin-authors.md.
package pluginv1
