package lambda

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
)

const (
	extensionPrefix = "/2020-01-01/extension/"
	maxRegistration = 64 << 10 // bytes of a register body
)

// registerExtension answers POST …/register.
func (a *api) registerExtension(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get("Lambda-Extension-Name")
	var ask struct {
		Events []string `json:"events"`
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
		refusal{http.StatusForbidden, "Extension.InvalidExtensionName", "the header Lambda-Extension-Name is missing"}.write(w)
		return
	}
	id, errorType, fault := a.env.register(name, ask.Events)
	if errorType != "" {
		refusal{http.StatusForbidden, "Extension." + errorType, fault}.write(w)
		return
	}
	f := a.env.fn
	doc := map[string]string{"functionName": f.artifact.Name, "functionVersion": latest, "handler": f.program.handler}
	if r.Header.Get("Lambda-Extension-Accept-Feature") == "accountId" {
		doc["accountId"] = f.artifact.Account
	}
	text, _ := json.Marshal(doc)
	w.Header().Set("Lambda-Extension-Identifier", id)
	writeJSON(w, http.StatusOK, text)
}

// extensionNext answers GET …/event/next, which blocks until there is an event.
func (a *api) extensionNext(w http.ResponseWriter, r *http.Request) {
	x := a.caller(w, r)
	if x == nil {
		return
	}
	a.env.extensionAsks(x)
	select {
	case ev := <-x.events:
		text, _ := json.Marshal(ev)
		w.Header().Set("Lambda-Extension-Event-Identifier", uuid.NewString())
		writeJSON(w, http.StatusOK, text)
	case <-r.Context().Done():
	case <-a.closing:
	}
}

// extensionError answers POST …/init/error and …/exit/error: the environment is finished.
func (a *api) extensionError(w http.ResponseWriter, r *http.Request, phase string) {
	x := a.caller(w, r)
	if x == nil {
		return
	}
	body, err := readLimited(r, a.limit)
	if err != nil {
		_, refused := unreadable(err, a.limit)
		refused.write(w)
		return
	}
	errorType := r.Header.Get("Lambda-Extension-Function-Error-Type")
	var doc errorDocument
	if json.Unmarshal(body, &doc) == nil && errorType == "" {
		errorType = doc.Type
	}
	accept(w)
	why := printable([]byte(fmt.Sprintf("%s: %s", orElse(errorType, "Extension.UnknownReason"), orElse(doc.Message, "no message"))))
	a.env.crash(fmt.Sprintf("extension %s reports an error in its %s phase: %s", x.name, phase, why), why)
}

// caller is the extension that sent r; without one r is refused.
func (a *api) caller(w http.ResponseWriter, r *http.Request) *extension {
	x := a.env.extension(r.Header.Get("Lambda-Extension-Identifier"))
	if x == nil {
		refusal{http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "the header Lambda-Extension-Identifier names no registered extension"}.write(w)
	}
	return x
}

// subscription answers the APIs by which extensions would get logs and traces. The service's own
// emulator answers so, and extensions go on without.
func (a *api) subscription(w http.ResponseWriter, name string) {
	writeJSON(w, http.StatusAccepted, fmt.Appendf(nil, `{"errorMessage":"%s API is not supported","errorType":"%[1]s.NotSupported"}`, name))
}
