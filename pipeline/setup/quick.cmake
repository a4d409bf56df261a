# Makes the build of llama.cpp quick without touching what is hot or what decides bytes: ggml, the
# quantizer, tokenizer, samplers and caches keep llama.cpp's own flags. The rest (arguments, JSON,
# HTTP, chat templates, graph building, vision) is compiled with -Og, which takes half the time, and
# joined into larger units, so that the large headers are read once.
# Used as -DCMAKE_PROJECT_llama.cpp_INCLUDE=<this file>; runs when llama.cpp has declared its targets.

function(flags target options) # for some of the target's sources, the last -O holds
    get_target_property(folder ${target} SOURCE_DIR)
    foreach(source ${ARGN})
        set_property(SOURCE "${folder}/${source}" TARGET_DIRECTORY ${target}
                     APPEND PROPERTY COMPILE_OPTIONS ${options})
    endforeach()
endfunction()

function(alone target) # what cannot share a unit: it gives names another meaning, or forbids headers
    get_target_property(folder ${target} SOURCE_DIR)
    foreach(source ${ARGN})
        set_property(SOURCE "${folder}/${source}" TARGET_DIRECTORY ${target}
                     PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
    endforeach()
endfunction()

function(swap target source patched) # compile another file in a source's place
    get_target_property(sources ${target} SOURCES)
    list(FIND sources ${source} place)
    if(place EQUAL -1)
        message(FATAL_ERROR "${target} is not made of ${source} any more")
    endif()
    list(TRANSFORM sources REPLACE "^${source}$" "${patched}")
    set_target_properties(${target} PROPERTIES SOURCES "${sources}")
endfunction()

function(compat) # Ollama's layer: the headers lie beside the sources, so that no other command changes
    swap(llama llama-model-loader.cpp "${OLLAMA_COMPAT}/llama-model-loader.cpp")
    swap(mtmd clip.cpp "${OLLAMA_COMPAT}/clip.cpp")
    file(GLOB sources "${OLLAMA_COMPAT}/llama-ollama-compat*.cpp")
    target_sources(llama PRIVATE ${sources})
    set_property(SOURCE ${sources} "${OLLAMA_COMPAT}/llama-model-loader.cpp" TARGET_DIRECTORY llama
                 PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

function(quick)
    foreach(target llama llama-common llama-common-base server-context llama-server-impl llama-server
                   llama-ui mtmd cpp-httplib llama-quantize llama-quantize-impl)
        target_compile_options(${target} PRIVATE -Og -w)
    endforeach()
    foreach(target llama-common server-context llama-server-impl mtmd)
        set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    endforeach()
    alone(llama-common json.cpp)
    alone(mtmd mtmd-helper.cpp mtmd-helper-gen.cpp)
    flags(llama -O3 llama-vocab.cpp unicode.cpp llama-sampler.cpp llama-quant.cpp llama-batch.cpp
          llama-kv-cache.cpp llama-kv-cache-iswa.cpp llama-memory-recurrent.cpp)
    flags(llama-common -O3 sampling.cpp)
    # In virtual machines that announce AMX its instructions may trap: a server died in its warm-up.
    target_compile_options(ggml-cpu PRIVATE -U__AMX_INT8__)
    flags(ggml-base -Og gguf.cpp ggml-backend-meta.cpp)
    if(OLLAMA_COMPAT) # the folder that setup/compat.py writes
        compat()
    endif()
endfunction()

cmake_language(DEFER DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" CALL quick)
