# Run by cpack between the staging and the packing. The umask of whoever packs must not show.
execute_process(COMMAND chmod -R u=rwX,go=rX "${CPACK_TEMPORARY_DIRECTORY}" COMMAND_ERROR_IS_FATAL ANY)

# What Debian's policy wants of files.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
set(usr "${CPACK_TEMPORARY_DIRECTORY}/usr")
file(GLOB_RECURSE manual "${usr}/share/man/*")
foreach(path IN LISTS manual)
  if(NOT path MATCHES "\\.gz$")
    execute_process(COMMAND gzip -9nf "${path}" COMMAND_ERROR_IS_FATAL ANY)
  endif()
endforeach()
execute_process(COMMAND gzip -9nf "${usr}/share/doc/portwrap/changelog" COMMAND_ERROR_IS_FATAL ANY)
# Debian's zsh does not look into /usr/share/zsh/site-functions.
file(RENAME "${usr}/share/zsh/site-functions" "${usr}/share/zsh/vendor-completions")
# Loaded, never executed.
file(CHMOD "${usr}/lib/portwrap/libportwrap.so" PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
