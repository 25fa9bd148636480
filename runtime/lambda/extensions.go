package lambda

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
)

const (
	extensionPrefix = "/2020-01-01/extension/"
	maxExtensions   = 10
	maxRegistration = 64 << 10 // bytes of a register body
)

// register takes internal extensions: code inside the handler's process that wants notice before
// it is killed. They get SIGTERM and shutdownTime. Events for extensions are not sent, so those
// who ask for some are refused. Files in an extensions folder are not started.
func (a *api) register(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get("Lambda-Extension-Name")
	var ask struct {
		Events []string `json:"events"`
	}
	refuse := func(errorType, format string, args ...any) {
		refusal{http.StatusForbidden, "Extension." + errorType, fmt.Sprintf(format, args...)}.write(w)
	}
	body, err := readLimited(r, maxRegistration)
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &ask)
	}
	switch {
	case err != nil:
		refusal{http.StatusBadRequest, "InvalidRequestFormat", `the body must be {"events":[]}`}.write(w)
		return
	case name == "":
		refuse("InvalidExtensionName", "the header Lambda-Extension-Name is missing")
		return
	case len(ask.Events) > 0:
		refuse("InvalidEventType", "internal extensions get no events here, %q was asked for: register with none", ask.Events[0])
		return
	}
	id, errorType := a.env.addExtension(name)
	if errorType != "" {
		refuse(errorType, "the extension %q cannot register", name)
		return
	}
	doc := map[string]string{"functionName": a.env.fn.artifact.Name, "functionVersion": latest, "handler": bootstrapName}
	if r.Header.Get("Lambda-Extension-Accept-Feature") == "accountId" {
		doc["accountId"] = a.env.fn.artifact.Account
	}
	text, _ := json.Marshal(doc)
	w.Header().Set("Lambda-Extension-Identifier", id)
	writeJSON(w, http.StatusOK, text)
}

// addExtension returns the new extension's identifier, or the type of the error.
func (e *environment) addExtension(name string) (id, errorType string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != starting {
		return "", "RegistrationClosed"
	}
	if len(e.extensions) == maxExtensions {
		return "", "TooManyExtensions"
	}
	for _, taken := range e.extensions {
		if taken == name {
			return "", "InvalidExtensionName"
		}
	}
	id = uuid.NewString()
	e.extensions[id] = name
	return id, ""
}

// extensionNext blocks until the environment ends: no extension has asked for events.
func (a *api) extensionNext(w http.ResponseWriter, r *http.Request) {
	a.env.mu.Lock()
	_, known := a.env.extensions[r.Header.Get("Lambda-Extension-Identifier")]
	a.env.mu.Unlock()
	if !known {
		refusal{http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "the header Lambda-Extension-Identifier names no registered extension"}.write(w)
		return
	}
	select {
	case <-r.Context().Done():
	case <-a.closing:
	}
}
