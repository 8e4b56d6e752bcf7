/* Reading of a plugin's descriptor out of its file, without running any of its code. */
#ifndef STN_PLUGIN_NOTE_H
#define STN_PLUGIN_NOTE_H

#include <stn/plugin.h>

/* Reads the note and checks the file's outline: a complete shared object for this machine. Any
 * bytes may be in the file. err->text is the reason alone, without the path. E_PLUGIN: not a plugin
 * or a broken one; E_IO or E_NOTFOUND: unreadable. On success name and version are terminated. */
int32_t stn__note_read(const char *path, stn_plugin_note *note, stn_err *err);
/* Whether this build accepts the note: magic, major version, kind, sanitizer features, name. */
int32_t stn__note_check(const stn_plugin_note *note, stn_err *err);
/* "backend", "dataset", "model"; "plugin" for other numbers. */
const char *stn__kind_name(uint32_t kind);

#endif
