// Package admin makes the plugins of a [catalog.Catalog] recipes of a host, and serves
// the host's PluginService, by which they are added, exchanged and removed while it
// runs.
//
// # Life
//
//  1. New, then Load: every plugin that was added is checked, and becomes a recipe,
//     which runs or says why it does not.
//  2. A host is made of [Service.Recipes], and serves the Service to administrators.
//  3. Bind gives the Service that host. Until then what would change it is refused.
//  4. The launcher is closed when the host has stopped.
//
// # Failure
//
// What is wrong with one plugin is told where it is listed, and in the status of the
// host, and touches nothing else. What fails half-way is undone: a plugin that does not
// start is not added, and one whose next version does not start runs on.
package admin
